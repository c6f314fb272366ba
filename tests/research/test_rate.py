"""Ratings of verdicts: subjects, styles, backgrounds, relations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from research.characters.judge import Finding, Verdict
from research.characters.judge.rate import rate
from research.characters.prompts import Instance, Prompt

GENIE, SINGER = Instance("person", "genie"), Instance("person", "singer")
PAIR = Prompt("x", "same class", "report", "", (GENIE, SINGER))


def seen(name: str, x: float = 80.0, y: float = 128.0, style: str = "none") -> Finding:
    return Finding(x, y, 110.0, 0.9, {name: 0.9, "fox": 0.05}, {style: 1.0})


def verdict(*subjects: Finding, background: str = "grass", style: str = "none") -> Verdict:
    return Verdict(subjects, background, style)


def test_both_in_any_order_are_right() -> None:
    rating = rate(PAIR, verdict(seen("singer"), seen("genie", 190)))
    assert (rating.present, rating.right, rating.exact, rating.omitted, rating.blended) == (True, True, True, 0, 0)


def test_twice_the_same_one_lacks_the_other() -> None:
    rating = rate(PAIR, verdict(seen("genie"), seen("genie", 190)))
    assert (rating.present, rating.right, rating.omitted) == (True, False, 0.5)


def test_a_blend_is_counted() -> None:
    rating = rate(PAIR, verdict(seen("genie"), seen("wrong", 190)))
    assert (rating.right, rating.blended) == (False, 0.5)


def test_one_too_many_is_right_but_not_exact() -> None:
    rating = rate(PAIR, verdict(seen("genie"), seen("singer", 190), seen("fox", 128, 40)))
    assert (rating.right, rating.exact) == (True, False)


def test_styles_of_the_whole_and_of_one() -> None:
    whole = replace(PAIR, style="pencil")
    drawn = [seen("genie", style="pencil"), seen("singer", 190, style="pencil")]
    assert rate(whole, verdict(*drawn, style="pencil")).right
    assert not rate(whole, verdict(*drawn, style="none")).right
    assert not rate(PAIR, verdict(*drawn)).right
    one = replace(PAIR, expect=(GENIE, replace(SINGER, style="pencil")))
    assert rate(one, verdict(seen("genie"), drawn[1])).right
    assert not rate(one, verdict(*drawn)).right


def test_the_background_counts_where_it_is_asked_for() -> None:
    lava = replace(PAIR, background="lava")
    found = [seen("genie"), seen("singer", 190)]
    assert not rate(lava, verdict(*found)).right
    assert rate(lava, verdict(*found, background="lava")).right


@pytest.mark.parametrize(
    ("kind", "first", "second", "right"),
    [
        ("riding", (120, 80), (125, 170), True),
        ("riding", (120, 170), (125, 80), False),
        ("riding", (40, 80), (200, 170), False),
        ("wearing", (120, 150), (120, 70), True),
        ("wearing", (120, 70), (120, 150), False),
        ("holding", (120, 120), (140, 160), True),
        ("holding", (60, 120), (200, 120), False),
        ("holding", (120, 150), (120, 90), False),
        ("behind", (100, 110), (150, 140), True),
        ("behind", (150, 140), (100, 110), False),
        ("behind", (60, 110), (200, 140), False),
    ],
)
def test_relations_are_places(kind: str, first: tuple[float, float], second: tuple[float, float], right: bool) -> None:
    prompt = replace(PAIR, relation=(kind, 0, 1))
    assert rate(prompt, verdict(seen("genie", *first), seen("singer", *second))).right == right
