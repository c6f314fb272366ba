"""The conditioning of a batch: rows, contexts and plans step by step, with an encoder of words."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from clora.conditioning import batch
from clora.conditioning.batch import BatchConditioning, condition_batch
from clora.conditioning.encoding import Encoded, TextGroup
from clora.conditioning.lora_sets import SetsOfVariants, lora_sets
from clora.conditioning.timetable import PromptSteps
from clora.errors import CLoRAError
from clora.fusion import variants_of
from clora.lora.library import LoraLibrary
from clora.lora.use import LoraUse
from clora.models.denoiser import Row
from clora.prompt import PromptTokens, ResolvedText, analyze, encode_layout
from clora.settings import Settings

PROMPT = "a <lora:cat:1> cat and a <lora:dog:1> dog"


class Words:
    """Encodes a text as its length and LoRA set; a token is a word."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {}

    def layout(self, text: ResolvedText) -> PromptTokens:
        def tokenize(piece: str) -> list[int]:
            return [self.words.setdefault(word, 10 + len(self.words)) for word in piece.split()]

        return encode_layout(text, tokenize, bos=0, eos=1, pad=1, chunk_length=75)

    def encode_groups(self, groups: Sequence[TextGroup], sets: object) -> list[list[Encoded]]:
        return [[Encoded(torch.full((77, 2), len(str(text)) + 0.5 * group.negative), None) for text in group.texts]
                for group in groups]  # fmt: skip


@pytest.fixture(autouse=True)
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def sets(variants: Sequence[Sequence[object]], library: object, components: object, left: object) -> object:
        return SetsOfVariants(((),) * 9, {(i, v): v for i, own in enumerate(variants) for v in range(len(own))})

    monkeypatch.setattr(batch, "lora_sets", sets)


def conditioning(*prompts: str, steps: PromptSteps, method: str = "clora", negative: str = "bad") -> BatchConditioning:
    settings, compositions = Settings(method=method), [analyze(prompt, negative) for prompt in prompts]
    variants = [variants_of(one, settings) for one in compositions]
    return condition_batch(Words(), {}, compositions, variants, LoraLibrary({}), settings, steps)


def test_every_row_has_a_context_and_every_image_a_plan() -> None:
    found = conditioning(PROMPT, f"{PROMPT} on sand", steps=PromptSteps(4))
    assert found.rows == tuple(Row(i, v, half) for i in range(2) for v in range(3) for half in (True, False))
    now = found.at(0)
    assert [plan.variants for plan in now.plans] == [3, 3]
    assert [[concept.mask for concept in plan.concepts] for plan in now.plans] == [[(2,), (5,)]] * 2
    given = now.conditioned([Row(0, 0, True), Row(1, 2, False)])
    assert given.contexts[:, 0, 0].tolist() == [len("a cat and a dog"), len("bad") + 0.5]
    assert given.sets == [0, 2]
    assert given.vectors is None


@pytest.mark.parametrize("method", ["merge", "composite", "switch"])
def test_a_method_without_masks_says_that_places_are_not_kept(method: str) -> None:
    placed = PROMPT.replace("dog:1", "dog:1:place=left")
    (note,) = conditioning(placed, steps=PromptSteps(4), method=method).warnings
    assert f"not kept by the method {method}" in note
    assert not conditioning(PROMPT, steps=PromptSteps(4), method=method).warnings
    assert not conditioning(f"{placed} AND a cat", steps=PromptSteps(4), method=method).warnings
    assert not conditioning(placed, steps=PromptSteps(4)).warnings


@pytest.mark.parametrize("delay", [0, 1])
def test_contexts_and_plans_follow_the_schedule(delay: int) -> None:
    found = conditioning(f"[by day:at late night:2] {PROMPT}", steps=PromptSteps(4, delay=delay))
    lengths = [float(found.at(step).contexts[Row(0, 0, True)].context[0, 0]) for step in range(4)]
    masks = [found.at(step).plans[0].concepts[0].mask for step in range(4)]
    early, late = len("by day a cat and a dog"), len("at late night a cat and a dog")
    assert lengths == [early] * (2 + delay) + [late] * (2 - delay)
    assert masks == [(4,)] * (2 + delay) + [(5,)] * (2 - delay)


def test_the_same_text_in_two_images_keeps_the_positions_of_each() -> None:
    """Both draw "night a cat and a dog" from step 2 on, but the words stand elsewhere in the two prompts."""
    found = conditioning(f"[dawn:night:1] {PROMPT}", f"night {PROMPT}", steps=PromptSteps(3))
    first, second = found.at(2).plans
    assert [concept.mask for concept in first.concepts] == [concept.mask for concept in second.concepts] == [(3,), (6,)]


def test_words_that_are_never_in_the_text_are_an_error() -> None:
    scheduled = "a <lora:cat:1:words=tiger> [tiger:horse:0] and a <lora:dog:1> dog"
    with pytest.raises(CLoRAError, match=r'"tiger".*scheduling'):
        conditioning(scheduled, steps=PromptSteps(4))
    assert conditioning(scheduled, steps=PromptSteps(4), method="merge").at(0).plans[0].concepts == ()


def test_words_that_are_there_at_some_steps_are_planned_at_these() -> None:
    found = conditioning("a <lora:cat:1:words=tiger> [tiger:horse:2] and a <lora:dog:1> dog", steps=PromptSteps(4))
    assert [found.at(step).plans[0].concepts[0].mask for step in range(4)] == [(2,), (2,), (), ()]


def test_other_subjects_keep_their_numbers_while_scheduling_brings_them_in() -> None:
    found = conditioning(f"{PROMPT} [, a fox:2]", steps=PromptSteps(4))
    assert [len(found.at(step).plans[0].others) for step in range(4)] == [1] * 4
    assert [bool(found.at(step).plans[0].others[0].group) for step in range(4)] == [False, False, True, True]


class Named:
    """A library whose LoRAs are their uses' names."""

    def applied(self, use: LoraUse, model: object) -> str:
        return use.name


STYLED = "a <lora:cat:1> cat and a <clora:dog> dog, <lora:ink:1:role=style> ink style"


@pytest.mark.parametrize("preset", ["balanced", "exact"])
def test_a_style_joins_in_late_where_a_lora_draws_the_subject(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    composition = analyze(STYLED)
    variants = [variants_of(composition, Settings(preset=preset), composition.styles)]
    found = lora_sets(variants, Named(), {}, ())  # type: ignore[arg-type]
    names = [found.sets[found.of[0, number]] for number in range(3)]
    assert names == [("ink",), ("ink", "cat"), ("ink",)]
    assert {variant: found.sets[number] for (_, variant), number in found.early.items()} == {1: ("cat",)}

    monkeypatch.setattr(batch, "lora_sets", lambda *_: SetsOfVariants(((),) * 9, found.of, found.early))
    rows = [Row(0, number, True) for number in range(3)]

    def sets(step: int, steps: PromptSteps) -> list[int]:
        settings = Settings(preset=preset)
        of = condition_batch(Words(), {}, [composition], variants, LoraLibrary({}), settings, steps)
        return list(of.at(step).conditioned(rows).sets)

    late = [found.of[0, number] for number in range(3)]
    early = [late[0], found.early[0, 1], late[2]]
    assert [sets(step, PromptSteps(20)) for step in (0, 7, 8, 19)] == [early, early, late, late]
    assert sets(0, PromptSteps(20, from_noise=False)) == late, "the look is there already"


def test_a_style_acts_from_the_start_without_a_look_that_it_could_hide() -> None:
    for method in ("merge", "composite", "switch"):
        composition = analyze(STYLED)
        variants = [variants_of(composition, Settings(method=method), composition.styles)]
        assert not lora_sets(variants, Named(), {}, ()).early  # type: ignore[arg-type]


@pytest.mark.parametrize(("style_from", "apart"), [(0.4, True), (0.0, False)])
def test_the_base_draws_what_is_beside_the_subjects_in_a_late_style(style_from: float, apart: bool) -> None:
    composition, settings = analyze(STYLED), Settings(style_from=style_from)
    variants = [variants_of(composition, settings, composition.styles)]
    found = condition_batch(Words(), {}, [composition], variants, LoraLibrary({}), settings, PromptSteps(4))
    assert found.plans[0].at(0).background is apart
