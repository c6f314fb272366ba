"""Every text encoded once, and contexts of one length."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from clora.conditioning.encoding import Encoded, TextGroup, encode_once, equal_length
from clora.prompt import PromptTokens, ResolvedText


def group(*texts: str, lora_set: int = 0, negative: bool = False) -> TextGroup:
    return TextGroup(tuple(ResolvedText.whole(text) for text in texts), lora_set, negative)


class Recorder:
    """Encodes a text as its length, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[TextGroup] = []

    def layout(self, text: ResolvedText) -> PromptTokens:
        raise NotImplementedError

    def encode_groups(self, groups: Sequence[TextGroup], sets: object) -> list[list[Encoded]]:
        self.asked += groups
        return [[encoded(len(str(text)), 1) for text in one.texts] for one in groups]


def encoded(value: float, chunks: int) -> Encoded:
    return Encoded(torch.full((2 * chunks, 3), float(value)), torch.tensor([value]))


def test_a_group_is_encoded_once_for_each_lora_set_and_half() -> None:
    recorder = Recorder()
    groups = [
        group("cat", "dogs"), group("cat"), group("cat", "dogs"), group("cat", lora_set=1), group("cat", negative=True),
        group("cat"),
    ]  # fmt: skip
    found = encode_once(recorder, groups, ())
    assert recorder.asked == [groups[0], groups[1], groups[3], groups[4]]
    assert [len(one) for one in found] == [2, 1, 2, 1, 1, 1]
    assert found[0] is found[2]
    assert [float(one[-1].context[0, 0]) for one in found] == [4, 3, 4, 3, 3, 3]


def test_contexts_of_one_length_stay_as_they_are() -> None:
    groups = [[encoded(1, 2), encoded(2, 2)], [encoded(3, 2)]]

    def never() -> Encoded:
        pytest.fail("nothing has to be filled up")

    assert equal_length(groups, never) == groups
    assert equal_length(groups, None) == groups


def test_shorter_contexts_are_repeated_as_a_whole() -> None:
    (two, three), (one,) = equal_length([[encoded(1, 2), encoded(2, 3)], [encoded(3, 1)]], None)
    assert {len(found.context) for found in (one, two, three)} == {2 * 6}
    start = Encoded(torch.arange(4.0)[:, None], None)
    (repeated, _) = equal_length([[start, encoded(0, 4)]], None)[0]
    assert repeated.context[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_shorter_contexts_are_filled_up_with_the_empty_prompt() -> None:
    (short, long), (shortest,) = equal_length([[encoded(1, 2), encoded(2, 3)], [encoded(3, 1)]], lambda: encoded(9, 1))
    assert short.context[:, 0].tolist() == [1, 1, 1, 1, 9, 9]
    assert long.context[:, 0].tolist() == [2] * 6
    assert shortest.context[:, 0].tolist() == [3, 3, 9, 9, 9, 9]
    assert float(short.vector[0]) == 1  # type: ignore[index]
