"""Every text encoded once, and contexts of one length."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from clora.conditioning.encoding import LONGEST, Encoded, TextGroup, encode_once, equal_length, independent
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


def test_each_image_of_a_batch_is_filled_up_to_its_own_longest_text_and_repeated() -> None:
    def empty() -> Encoded:
        return encoded(9, 1)

    first, second = [[encoded(1, 1)], [encoded(2, 1)]], [[encoded(3, 1)], [encoded(4, 3)]]
    filled = equal_length([*first, *second], empty)
    assert [one.filled for group in filled for one in group] == [4, 4, 4, 0]
    (one, two), (three, four) = (group for group in independent([filled[:2], filled[2:]])[0])
    values = [found.context[:, 0].tolist() for found in (one[0], two[0], three[0], four[0])]
    assert values == [[1] * 6, [2] * 6, [3, 3, 9, 9, 9, 9], [4] * 6]
    assert float(one[0].vector[0]) == 1  # type: ignore[index]


def test_images_of_one_length_stay_as_they_are() -> None:
    groups = [[[encoded(1, 2)], [encoded(2, 2)]], [[encoded(3, 2)]]]
    assert independent(groups) == (groups, True)


def test_lengths_without_a_short_common_multiple_are_told() -> None:
    whole = [Encoded(torch.zeros(rows, 1), None) for rows in (LONGEST - 1, LONGEST)]
    (short, long) = equal_length([[one] for one in whole], lambda: Encoded(torch.ones(1, 1), None))
    found, alike = independent([[short], [long]])
    assert not alike
    assert found == [[short], [long]]
