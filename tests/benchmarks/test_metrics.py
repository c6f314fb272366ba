"""Ratings and intervals against values computed by hand."""

from __future__ import annotations

import pytest

from benchmarks.composition.eyes import Label, compare, load_labels
from benchmarks.composition.metrics import rate
from benchmarks.composition.prompts import Instance, Prompt, load_prompts
from benchmarks.composition.report import MEASURES, difference, matrix, rated, report, summarize, tables
from benchmarks.composition.run import Result
from benchmarks.judge import BACKGROUND_NAMES, LOOK_NAMES, Finding, Verdict

SUN, MOON, TIGER = Instance("ball", "sunball"), Instance("ball", "moonball"), Instance("fish", "tigerfish")


def found(kind: str, pencil: float = 0.0, **looks: float) -> Finding:
    shares = {name: looks.get(name, 0.0) for name in LOOK_NAMES}
    shares["none"] += 1 - sum(looks.values())
    whole = {name: float(share >= 0.7) for name, share in shares.items()}
    return Finding(kind, 0.9, 100.0, 100.0, 100.0, shares, whole, pencil)


def verdict(*things: Finding, background: str = "grass", pencil: float = 0.0) -> Verdict:
    return Verdict(things, {name: float(name == background) for name in BACKGROUND_NAMES}, pencil)


def prompt(*things: Instance, style: str | None = None, background: str | None = None, name: str = "p") -> Prompt:
    return Prompt(name, "two classes", "report", "", things, style, background)


def test_right_and_exact() -> None:
    both = [found("fish", tigerfish=0.9), found("ball", sunball=0.8)]
    assert rate(prompt(SUN, TIGER), verdict(*both)).exact
    more = rate(prompt(SUN, TIGER), verdict(*both, found("ball", sunball=1.0)))
    assert more.right
    assert not more.exact


def test_missing_and_wrong() -> None:
    one = rate(prompt(SUN, TIGER), verdict(found("ball", sunball=1.0)))
    assert (one.present, one.right, one.omitted, one.separation) == (False, False, 0.5, 1.0)
    none = rate(prompt(SUN, TIGER), verdict())
    assert (none.omitted, none.own, none.leak, none.separation) == (1.0, None, None, None)
    blend = rate(prompt(SUN, TIGER), verdict(found("ball", sunball=0.6), found("fish", tigerfish=1.0)))
    assert (blend.present, blend.right) == (True, False)


def test_the_leak_matrix() -> None:
    rating = rate(prompt(SUN, TIGER), verdict(found("ball", sunball=0.5, tigerfish=0.3), found("fish", tigerfish=0.8)))
    assert rating.matrix == (("sunball", {"sunball": 0.5, "tigerfish": 0.3}),
                             ("tigerfish", {"sunball": 0.0, "tigerfish": 0.8}))  # fmt: skip
    assert rating.own == pytest.approx(0.65)
    assert rating.leak == pytest.approx(0.15)
    assert rating.separation == pytest.approx(0.5)


def test_two_of_one_class_are_told_apart_by_their_looks() -> None:
    pair = rate(prompt(SUN, MOON), verdict(found("ball", moonball=0.9), found("ball", sunball=0.8, moonball=0.1)))
    assert pair.right
    assert pair.leak == pytest.approx(0.05)
    moons = rate(prompt(SUN, MOON), verdict(found("ball", moonball=0.9), found("ball", moonball=1.0)))
    assert (moons.present, moons.right) == (True, False)
    assert moons.separation == pytest.approx((0.0 + 1.0) / 2 - (0.9 + 0.0) / 2)
    single = rate(prompt(SUN, MOON), verdict(found("ball", moonball=1.0)))
    assert (single.present, single.omitted) == (False, 0.5)


def test_style_background_and_pencil() -> None:
    grey = found("ball", pencil=1.0, sunball=1.0)
    assert rate(prompt(SUN, style="sketch"), verdict(grey, pencil=0.9)).right
    assert not rate(prompt(SUN, style="sketch"), verdict(grey, pencil=0.3)).right
    assert not rate(prompt(SUN), verdict(grey)).right
    assert rate(prompt(Instance("ball", "sunball", pencil=True)), verdict(grey)).right
    ball = found("ball", sunball=1.0)
    assert rate(prompt(SUN, background="lava"), verdict(ball, background="lava")).right
    assert not rate(prompt(SUN, background="lava"), verdict(ball, background="sand")).right


def _rows() -> list[Result]:
    good = verdict(found("ball", sunball=1.0), found("fish", tigerfish=1.0))
    bad = verdict(found("ball", sunball=1.0))
    return [
        Result("p", 0, "default", 2.0, good),
        Result("p", 1, "default", 4.0, good),
        Result("p", 0, "merge", 1.0, bad),
        Result("p", 1, "merge", 1.0, good),
    ]


def test_a_summary() -> None:
    rows = rated([prompt(SUN, TIGER)], _rows())
    merge = [row for row in rows if row.result.method == "merge"]
    told = summarize(merge)
    assert (told["prompts"], told["pictures"]) == (1, 2)
    means = {measure.name: told[measure.name]["mean"] for measure in MEASURES}
    assert means == {"present": 0.5, "right": 0.5, "exact": 0.5, "omission": 0.25, "leak": 0.0, "separation": 1.0,
                     "seconds": 1.0}  # fmt: skip
    default = [row for row in rows if row.result.method == "default"]
    gap = difference(merge, default)
    assert gap is not None
    assert gap["mean"] == -0.5
    assert matrix(default)["sunball"] == {"sunball": 1.0, "tigerfish": 0.0}


def test_the_tables() -> None:
    found_ = report(rated([prompt(SUN, TIGER)], _rows()))
    assert set(found_) == {"all", "two classes"}
    text = tables(found_)
    assert "| CLoRA, default | 100 % (" in text
    assert "(1 prompts, 2 pictures of each method)" in text


def test_agreement_with_eyes() -> None:
    labels = load_labels()
    assert sum(label.blind for label in labels) >= 30
    assert {label.prompt for label in labels} <= {prompt.id for prompt in load_prompts()}
    good = rate(prompt(SUN), verdict(found("ball", sunball=1.0)))
    told = compare([Label("a", "merge", 1, True, True), Label("b", "merge", 2, True, False)], [good, good])
    assert "right: 1 of 2 agree (50 %), 1 of 1 seen yes, 0 of 1 seen no\n  b, merge, seed 2: seen no" in told
    assert "present: 2 of 2 agree" in told
