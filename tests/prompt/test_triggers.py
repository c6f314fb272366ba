"""Triggers from a LoRA's file are inserted before its subject's words, only in its own variant."""

from __future__ import annotations

import pytest

from clora.prompt import WordsOverride, analyze

TEXTS = {
    "sun": ["sks ball"],
    "moon": ["sks ball, detailed"],
    "fish": ["sks fish"],
    "long": ["a b c d e f g ball"],
    "odd": ["(sks:1.2) ball"],
    "none": [],
}


def texts(prompt: str, **options: object) -> list[str]:
    return [v.text for v in analyze(prompt, activation_text=TEXTS, **options).variants]  # type: ignore[arg-type]


def test_a_missing_trigger_is_added_before_its_words_in_its_own_variant() -> None:
    prompt = "a ball and a ball on sand <lora:sun:1:words=ball> <lora:moon:1:words=ball:nth=2>"
    assert texts(prompt) == [
        "a ball and a ball on sand",
        "a sks ball and a ball on sand",
        "a ball and a sks ball on sand",
    ]
    read = analyze(prompt, activation_text=TEXTS)
    assert read.merged.text == "a sks ball and a sks ball on sand"
    assert read.host_text == "a ball and a ball on sand"
    assert [c.triggers for c in read.concepts] == [("sks",), ("sks",)]
    own = read.variants[2]
    assert [own.text[s.start : s.end] for s in own.triggers] == ["sks"]
    assert [[own.text[s.start : s.end] for s in g] for g in own.subjects] == [["ball"], ["ball"]]
    assert [w for w in read.warnings if '"sks"' in w and '"moon"' in w and '"ball"' in w]


@pytest.mark.parametrize(
    "prompt",
    [
        "a <lora:sun:1> sks ball and a <lora:fish:1> sks fish",
        "a <lora:sun:1:trigger=> ball and a <lora:fish:1:trigger=> fish",
        "a <lora:none:1> ball and a <lora:long:1> ball",
        "a <lora:odd:1> ball and a <lora:none:1> fish",
        "sks, a <lora:sun:1> ball and a <lora:none:1> fish",
    ],
    ids=["both there", "tags say none", "nothing known, or a description", "syntax", "elsewhere in the prompt"],
)
def test_nothing_is_added_if_nothing_is_missing(prompt: str) -> None:
    read = analyze(prompt, activation_text=TEXTS)
    assert {v.text for v in read.variants} == {read.text}
    assert read.warnings == ()


def test_another_subjects_trigger_is_not_taken_for_ones_own() -> None:
    assert texts("a <lora:sun:1> sks ball and a <lora:moon:1> ball")[2] == "a sks ball and a sks ball"


def test_a_given_trigger_is_the_only_one() -> None:
    assert texts("a <lora:sun:1:trigger=ohwx> ball and a <lora:none:1> fish")[1] == "a ohwx ball and a fish"
    given = {"sun": WordsOverride(trigger="ohwx")}
    assert texts("a <lora:sun:1> ball and a <lora:none:1> fish", overrides=given)[1] == "a ohwx ball and a fish"


def test_triggers_of_tags_elsewhere_go_before_their_words() -> None:
    behind = "a ball and a ball on sand <lora:sun:1:trigger=sks:words=ball> <lora:moon:1:trigger=zwx:words=ball:nth=2>"
    read = analyze(behind)
    assert [v.text for v in read.variants[1:]] == ["a sks ball and a ball on sand", "a ball and a zwx ball on sand"]
    assert read.merged.text == "a sks ball and a zwx ball on sand"
    assert read.warnings == ()
    first = "<lora:sun:1:trigger=sks:words=ball> <lora:moon:1:trigger=zwx:words=fish> a ball and a fish"
    assert texts(first)[1:] == ["sks a ball and a fish", "a ball and a zwx fish"]
    assert texts("a <lora:sun:1:trigger=sks> ball, a <lora:fish:1:trigger=zwx> fish")[1] == "a sks ball, a fish"


def test_attention_and_further_words_of_the_subject() -> None:
    assert texts("a <lora:none:1> ball and (a <lora:fish:1> (red fish:1.2))")[2] == "a ball and (a (sks red fish:1.2))"


def test_words_that_the_subject_has_are_not_doubled() -> None:
    assert texts("a <lora:fish:1> fish swimming and a <lora:none:1> ball")[1] == "a sks fish swimming and a ball"
