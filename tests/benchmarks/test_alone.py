"""What the LoRAs can draw by themselves: each one's scene, and what counts."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.composition import alone
from benchmarks.composition.prompts import Instance, Prompt
from clora.settings import Settings

PROMPT = Prompt(
    "p", "two classes", "report", "a <lora:sun:1> sks ball and a <lora:fish:1:trigger=sks> fish on grass",
    (Instance("ball", "sun"), Instance("fish", "fish"), Instance("star", "none")),
)  # fmt: skip


def finding(kind: str, look: str) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, carries=lambda asked: asked == look)


def test_a_scene_keeps_its_subjects_and_one_lora() -> None:
    assert alone.scene_with(PROMPT.text, "sun") == "a <lora:sun:1> sks ball and a fish on grass"
    assert alone.scene_with(PROMPT.text, "fish") == "a ball and a <lora:fish:1:trigger=sks> fish on grass"


def test_a_look_counts_on_a_thing_of_its_class_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def draw(setup: Any, text: str, seeds: Sequence[int], settings: Settings) -> list[str]:
        asked.append(settings.method)
        return [text] * len(seeds)

    verdicts = {
        "a <lora:sun:1> sks ball and a fish on grass": [finding("fish", "sun"), finding("ball", "none")],
        "a ball and a <lora:fish:1:trigger=sks> fish on grass": [finding("fish", "none"), finding("fish", "fish")],
    }
    judge = lambda pictures: [SimpleNamespace(things=verdicts[text]) for text in pictures]  # noqa: E731
    monkeypatch.setattr(alone, "by_composing", draw)
    found = alone.drawn_alone(SimpleNamespace(judge=judge), PROMPT, range(2))  # type: ignore[arg-type]
    assert found == {"sun": [False, False], "fish": [True, True]}
    assert asked == ["merge", "merge"]
