"""Triggers from a LoRA's file are inserted before its subject's words, only in its own variant."""

from __future__ import annotations

import pytest

from clora.prompt import WordsOverride, analyze

TEXTS = {
    "genie": ["sks person"],
    "singer": ["sks person, detailed"],
    "peacock": ["sks bird"],
    "long": ["a b c d e f g person"],
    "odd": ["(sks:1.2) person"],
    "none": [],
}


def texts(prompt: str, **options: object) -> list[str]:
    return [v.text for v in analyze(prompt, activation_text=TEXTS, **options).variants]  # type: ignore[arg-type]


def test_a_missing_trigger_is_added_before_its_words_in_its_own_variant() -> None:
    prompt = "a person and a person on grass <lora:genie:1:words=person> <lora:singer:1:words=person:nth=2>"
    assert texts(prompt) == [
        "a person and a person on grass",
        "a sks person and a person on grass",
        "a person and a sks person on grass",
    ]
    read = analyze(prompt, activation_text=TEXTS)
    assert read.merged.text == "a sks person and a sks person on grass"
    assert read.host_text == "a person and a person on grass"
    assert [c.triggers for c in read.concepts] == [("sks",), ("sks",)]
    own = read.variants[2]
    assert [own.text[s.start : s.end] for s in own.triggers] == ["sks"]
    assert [[own.text[s.start : s.end] for s in g] for g in own.subjects] == [["person"], ["person"]]
    assert [w for w in read.warnings if '"sks"' in w and '"singer"' in w and '"person"' in w]


@pytest.mark.parametrize(
    "prompt",
    [
        "a <lora:genie:1> sks person and a <lora:peacock:1> sks bird",
        "a <lora:genie:1:trigger=> person and a <lora:peacock:1:trigger=> bird",
        "a <lora:none:1> person and a <lora:long:1> person",
        "a <lora:odd:1> person and a <lora:none:1> bird",
        "sks, a <lora:genie:1> person and a <lora:none:1> bird",
    ],
    ids=["both there", "tags say none", "nothing known, or a description", "syntax", "elsewhere in the prompt"],
)
def test_nothing_is_added_if_nothing_is_missing(prompt: str) -> None:
    read = analyze(prompt, activation_text=TEXTS)
    assert {v.text for v in read.variants} == {read.text}
    assert read.warnings == ()


def test_another_subjects_trigger_is_not_taken_for_ones_own() -> None:
    assert texts("a <lora:genie:1> sks person and a <lora:singer:1> person")[2] == "a sks person and a sks person"


def test_a_given_trigger_is_the_only_one() -> None:
    assert texts("a <lora:genie:1:trigger=ohwx> person and a <lora:none:1> bird")[1] == "a ohwx person and a bird"
    given = {"genie": WordsOverride(trigger="ohwx")}
    assert texts("a <lora:genie:1> person and a <lora:none:1> bird", overrides=given)[1] == "a ohwx person and a bird"


def test_triggers_of_tags_elsewhere_go_before_their_words() -> None:
    behind = "a person and a person on grass <lora:genie:1:trigger=sks:words=person>"
    behind += " <lora:singer:1:trigger=zwx:words=person:nth=2>"
    read = analyze(behind)
    assert [v.text for v in read.variants[1:]] == [
        "a sks person and a person on grass",
        "a person and a zwx person on grass",
    ]
    assert read.merged.text == "a sks person and a zwx person on grass"
    assert read.warnings == ()
    first = "<lora:genie:1:trigger=sks:words=person> <lora:singer:1:trigger=zwx:words=bird> a person and a bird"
    assert texts(first)[1:] == ["sks a person and a bird", "a person and a zwx bird"]
    assert (
        texts("a <lora:genie:1:trigger=sks> person, a <lora:peacock:1:trigger=zwx> bird")[1] == "a sks person, a bird"
    )


def test_attention_and_further_words_of_the_subject() -> None:
    assert (
        texts("a <lora:none:1> person and (a <lora:peacock:1> (red bird:1.2))")[2]
        == "a person and (a (sks red bird:1.2))"
    )


def test_words_that_the_subject_has_are_not_doubled() -> None:
    assert texts("a <lora:peacock:1> bird swimming and a <lora:none:1> person")[1] == "a sks bird swimming and a person"
