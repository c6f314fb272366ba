"""The prompt set has the documented groups and pairs, and clora reads every prompt without a warning."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest

from benchmarks.composition.boxes import LAYOUTS
from benchmarks.composition.prompts import GROUPS, SINGLE, Prompt, choose, load_prompts
from clora.embedded import EMBEDDED_LORAS
from clora.lora.library import LoraLibrary
from clora.prompt import analyze
from clora.prompt.evidence import evidence_of_files
from research.world import BACKGROUND_PHRASES, LOOKS

PROMPTS = load_prompts()
COMPOSING = [prompt for prompt in PROMPTS if prompt.group != SINGLE]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.id)
def test_a_prompt_is_read_as_it_is_meant(prompt: Prompt) -> None:
    library = LoraLibrary([EMBEDDED_LORAS])
    composition = analyze(prompt.text, evidence=evidence_of_files(library.path))
    assert not composition.warnings
    assert composition.composes == (prompt.group != SINGLE)
    named = [use.name for concept in composition.concepts for use in concept.loras]
    used = [*named, *(use.name for use in (*composition.styles, *composition.background))]
    assert all((EMBEDDED_LORAS / f"{name}.safetensors").is_file() for name in used)
    # Concepts stand in the order of the things asked for; a second LoRA on a thing is the pencil.
    assert [name for name in named if name != "sketch"] == list(prompt.looks)
    assert ("sketch" in named) == any(thing.pencil for thing in prompt.expect)
    if composition.composes:
        for thing, concept in zip(prompt.expect, composition.concepts, strict=True):
            assert concept.words.split()[-1] == thing.kind == LOOKS[thing.look].kind
        assert len(prompt.expect) in LAYOUTS
    assert (prompt.style == "sketch") == ("sketch" in [use.name for use in composition.styles])
    assert (prompt.background == "lava") == ("lava" in [use.name for use in composition.background])


def test_groups_and_splits() -> None:
    assert len(COMPOSING) >= 60
    assert len({prompt.text for prompt in PROMPTS}) == len(PROMPTS)
    assert {prompt.group for prompt in PROMPTS} == set(GROUPS)
    for group in GROUPS:
        own = [prompt for prompt in PROMPTS if prompt.group == group]
        assert 0.25 <= sum(prompt.split == "tuning" for prompt in own) / len(own) <= 0.4, group


def test_every_pair_of_two_classes_is_reported() -> None:
    pairs = {frozenset(pair) for pair in combinations(LOOKS, 2) if LOOKS[pair[0]].kind != LOOKS[pair[1]].kind}
    for prompts in (COMPOSING, choose(COMPOSING, "report")):
        assert {frozenset(prompt.looks) for prompt in prompts if prompt.group == "two classes"} == pairs
    threes = {pair for prompt in PROMPTS if prompt.group == "three" for pair in combinations(sorted(prompt.looks), 2)}
    assert len(threes) == 15


def test_places_and_orders_vary() -> None:
    for group in ("two classes", "same class", "three"):
        own = [prompt for prompt in PROMPTS if prompt.group == group]
        for name, phrase in BACKGROUND_PHRASES.items():
            assert name == "lava" or any(phrase in prompt.text for prompt in own), (group, phrase)
    assert {prompt.looks for prompt in PROMPTS if prompt.group == "same class"} == {
        ("sunball", "moonball"),
        ("moonball", "sunball"),
    }


def test_a_limit_takes_from_every_group() -> None:
    assert {prompt.group for prompt in choose(PROMPTS, "report", 7)} == set(GROUPS)
    assert len(choose(PROMPTS, "tuning", 5)) == 5
    assert len(choose(PROMPTS)) == len(PROMPTS)


@pytest.mark.parametrize("change", [{"split": "other"}, {"colour": "red"}, {"id": None}])
def test_a_wrong_entry_is_refused(change: dict[str, str | None], tmp_path: Path) -> None:
    entry: dict[str, object] = {"id": "a", "group": "three", "split": "report", "prompt": "a ball", "expect": []}
    entry = {name: value for name, value in {**entry, **change}.items() if value is not None}
    (tmp_path / "p.json").write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match=r"split|unknown|missing"):
        load_prompts(tmp_path / "p.json")
