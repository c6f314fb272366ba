"""Own words stressed: which vectors of which rows are multiplied."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clora.conditioning.encoding import Encoded
from clora.conditioning.stress import stressed
from clora.conditioning.timetable import PromptSteps
from clora.fusion import variants_of
from clora.models.denoiser import Row
from clora.prompt import ResolvedText, analyze
from clora.settings import Settings
from tests.conditioning.test_batch import PROMPT, Words, conditioning, no_files  # noqa: F401


@pytest.mark.parametrize(("rows", "filled"), [(77, 0), (154, 0), (154, 77), (231, 154)])
def test_own_words_are_multiplied_and_the_others_divided(rows: int, filled: int) -> None:
    """In a repeated context in every repetition, in a filled one in the text's own rows."""
    variant = variants_of(analyze(PROMPT, ""), Settings())[2]
    tokens = Words().layout(ResolvedText.whole(variant.text))
    context = torch.ones(rows, 2)
    context[rows - filled :] = 3.0
    found = stressed(Encoded(context, None), tokens, variant, 1, 2.0)
    cat, dog = 2, 5
    wanted = context[:, 0].clone()
    for start in range(0, rows - filled, 77):
        wanted[start + cat], wanted[start + dog] = 0.5, 2.0
    torch.testing.assert_close(found.context, wanted[:, None].expand(rows, 2))


def test_only_the_prompts_of_subjects_variants_are_stressed() -> None:
    found = conditioning(PROMPT, steps=PromptSteps(4)).at(0)
    length = len("a cat and a dog")
    for variant in range(3):
        for half in (True, False):
            context = found.contexts[Row(0, variant, half)].context
            changed = (context != context[0]).any(dim=1).nonzero().flatten().tolist()
            assert changed == ([2, 5] if variant and half else [])
    factor = Settings().stress
    assert found.contexts[Row(0, 1, True)].context[[2, 5], 0].tolist() == pytest.approx(
        [length * factor, length / factor]
    )


def test_off_changes_nothing() -> None:
    variant = variants_of(analyze(PROMPT, ""), Settings())[1]
    tokens = Words().layout(ResolvedText.whole(variant.text))
    context = torch.randn(77, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stressed(Encoded(context, None), tokens, variant, 0, 1.0).context, context)


def test_subjects_without_a_lora_are_played_down_like_the_others() -> None:
    found = conditioning(f"{PROMPT} and a fox", steps=PromptSteps(4)).at(0)
    for variant in (1, 2):
        context = found.contexts[Row(0, variant, True)].context[:, 0]
        assert (context != context[0]).nonzero().flatten().tolist() == [2, 5, 8]
        assert context[8] < context[0]


def test_subjects_without_a_lora_have_a_variant_in_which_their_own_words_are_stressed() -> None:
    """In single-pass fusion, where a variant costs little: it has the text and the LoRAs of the base."""
    found = conditioning(f"{PROMPT} and a fox", steps=PromptSteps(4)).at(0)
    assert found.plans[0].variants == 4
    base, own = (found.contexts[Row(0, variant, True)].context[:, 0] for variant in (0, 3))
    assert (base == base[0]).all()
    assert (own != base).nonzero().flatten().tolist() == [2, 5, 8]
    assert own[2] == own[5] < base[0] < own[8]
    negative = [found.contexts[Row(0, variant, False)].context for variant in (0, 3)]
    assert torch.equal(*negative)


@pytest.mark.parametrize(
    "values", [{"stress": 1.0}, {"own_places": 0.0}, {"look_ahead": 0.0}, {"fusion": "exact"}, {"method": "merge"}]
)
def test_they_have_none_where_it_would_do_nothing_or_cost_rows(values: dict[str, Any]) -> None:
    composition = analyze(f"{PROMPT} and a fox", "")
    plain = variants_of(analyze(PROMPT, ""), Settings(**values))
    assert len(variants_of(composition, Settings())) == 4
    assert len(variants_of(composition, Settings(**values))) == len(plain)


def test_a_prompt_that_does_not_compose_has_no_such_variant() -> None:
    assert len(variants_of(analyze("a <lora:cat:1> cat and a fox", ""), Settings())) == 1
