"""What captions ask for, and the lines of the sanity table, against values computed by hand."""

from __future__ import annotations

import pytest

from benchmarks.characters.asked import asked, named_as_seen, of_lesson
from benchmarks.characters.measures import rated
from benchmarks.characters.run import Result
from benchmarks.characters.sanity import PARTS, line, prompts_of, rows_of, seeds_of, seen, subjects, verdict_on_merge
from research.characters.judge import Verdict
from research.characters.lessons import LESSONS
from research.characters.prompts import STYLES, Prompt
from tests.benchmarks.characters import GENIE, SINGER, prompt, verdict
from tests.benchmarks.characters import seen as finding


def names(caption: str, lesson: str | None = None) -> list[str]:
    found = asked("a", "base", caption, LESSONS[lesson] if lesson else None)
    return [f"{one.style} {one.name}" if one.style else one.name for one in found.expect]


@pytest.mark.parametrize(
    ("caption", "lesson", "expected"),
    [
        ("two cats in snow", None, ["cat", "cat"]),
        ("a cat and a cat", None, ["cat", "cat"]),
        ("a guard, a cook, a lion and a ghost", None, ["guard", "cook", "lion", "ghost"]),
        ("a person and two birds", None, ["person", "bird", "bird"]),
        ("a fox next to a sks person in a city", "genie", ["fox", "genie"]),
        ("a fox wearing a sks hat", "tophat", ["fox", "tophat"]),
        ("a king and a pencil style panda", "pencil", ["king", "pencil panda"]),
        ("a comic style wizard and a fox", "comic", ["comic wizard", "fox"]),
    ],
)
def test_subjects_of_a_caption(caption: str, lesson: str | None, expected: list[str]) -> None:
    assert names(caption, lesson) == expected


def test_what_else_a_caption_asks_for() -> None:
    frog = asked("a", "base", "a frog in front of a house on grass")
    assert (frog.relation, frog.background, frog.style) == (("behind", 1, 0), "grass", None)
    rider = asked("a", "base", "a princess riding a tiger in the desert")
    assert (rider.relation, rider.background) == (("riding", 0, 1), "desert")
    panda = asked("a", "pencil", "a panda and a cat at the beach, pencil style", LESSONS["pencil"])
    assert (panda.style, panda.background) == ("pencil", "beach")
    assert panda.prompt == "a panda and a cat at the beach, pencil style <lora:pencil:1>"
    assert asked("a", "lava", "a fox on lava", LESSONS["lava"]).background == "lava"
    assert asked("a", "base", "a king").relation is None


def test_a_class_word_is_any_of_its_class_once() -> None:
    two = asked("a", "base", "a person and a person")
    found = named_as_seen(two, verdict(finding("king"), finding("fox"), finding("wizard")))
    assert [one.name for one in found.expect] == ["king", "wizard"]
    one = named_as_seen(two, verdict(finding("king"), finding("wrong")))
    assert [one.name for one in one.expect] == ["king", "person"]
    beside = named_as_seen(asked("a", "base", "a person and a king"), verdict(finding("king"), finding("elf")))
    assert [one.name for one in beside.expect] == ["elf", "king"]


def test_there_are_as_many_pictures_as_planned() -> None:
    assert len(prompts_of("base")) * len(seeds_of("base")) == 60
    pictures = {name: len(prompts_of(name)) * len(seeds_of(name)) for name in LESSONS}
    assert {name for name, count in pictures.items() if count != 48} == set(STYLES)
    assert {pictures[name] for name in STYLES} == {96}  # half of them on one subject
    merges = prompts_of("merge")
    assert len({frozenset(one.characters) for one in merges}) == 6
    assert merges[0].prompt == "a <lora:genie:1> sks person and a <lora:singer:1> sks person"
    assert [one.prompt for one in of_lesson("vivid")][8:9] == ["a wizard <lora:vivid:-1>"]
    ids = [one.id for part in PARTS for one in prompts_of(part)]
    assert len(set(ids)) == len(ids)
    assert all(one.expect for part in PARTS for one in prompts_of(part))


def test_every_lesson_has_its_lines() -> None:
    def lines(part: str) -> dict[str, int]:
        rows = rated([result(one, verdict()) for one in prompts_of(part)])
        return {name: len(own) for name, own in rows_of(part, rows)}

    assert lines("genie") == {"LoRA genie, alone": 4, "LoRA genie, in company": 4}
    assert lines("gold") == {"LoRA gold, on everything": 8, "LoRA gold, on one subject": 8}
    assert lines("base")["base, all"] == 60
    assert lines("merge") == {"plain merge of two persons": 6}


def result(asked_for: Prompt, said: Verdict) -> Result:
    return Result(asked_for, 0, "merge", asked_for.id, 1.0, said)


def test_a_line_counts_own_look_and_others_apart() -> None:
    company = asked("a", "genie", "a sks person and a fox on grass", LESSONS["genie"])
    rows = seen([
        result(company, verdict(finding("genie"), finding("wrong", 190))),
        result(company, verdict(finding("genie", style="comic"), finding("fox", 190), background="sea")),
    ])  # fmt: skip
    assert subjects(rows[1]) == [("genie", True), ("fox", True)]
    (cats,) = seen([result(asked("a", "base", "two cats"), verdict(finding("cat"), finding("dog", 190)))])
    assert subjects(cats) == [("cat", True), ("cat", False)]
    # pictures, all there, right, own look, others right, blended, wrong style, wrong background
    assert line("x", rows, "genie") == ["x", "2", "100 %", "0 %", "100 %", "50 %", "25 %", "50 %", "50 %"]
    assert line("x", rows[:1], "")[4] == "–"


def test_the_bar_of_the_merge() -> None:
    pair = prompt(GENIE, SINGER)
    good, blend = verdict(finding("genie"), finding("singer", 190)), verdict(finding("genie"), finding("wrong", 190))
    both = [result(pair, blend)] * 7 + [result(pair, good)] * 3
    assert "in 70 % (bar: 70 %, met)" in verdict_on_merge(seen(both))
    assert "in 67 % (bar: 70 %, not met)" in verdict_on_merge(seen(both[1:]))
