"""Faults, shares and tables of the benchmark of characters against values computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.characters.measures import FAULTS, Rated, look, rated, stand_ins
from benchmarks.characters.report import MEASURES, difference, matrix, report, summarize, tables
from benchmarks.characters.run import Result
from research.characters.judge import Finding, Verdict
from research.characters.prompts import Instance, Prompt
from tests.benchmarks.characters import FOX, GENIE, SINGER, prompt, seen, verdict

PAIR = prompt(GENIE, SINGER)


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        (["genie", "singer"], set()),
        (["singer"], {"missing"}),
        ([], {"missing"}),
        (["genie", "wrong"], {"blended"}),
        (["genie", "genie"], {"swapped"}),
        (["genie", "wizard"], {"other"}),
        (["genie", "singer", "genie"], {"double"}),
        (["genie", "singer", "fox"], {"extra"}),
        (["genie", "singer", "wrong"], {"extra"}),
        (["wrong", "genie", "genie"], {"swapped", "extra"}),
        (["wizard", "wrong"], {"blended", "other"}),
    ],
)
def test_faults_of_subjects(found: list[str], faults: set[str]) -> None:
    subjects = [seen(name, 40.0 * i) for i, name in enumerate(found)]
    assert look(PAIR, verdict(*subjects)).faults == faults


def test_faults_of_the_whole() -> None:
    grey = [seen("genie", style="pencil"), seen("singer", 190, style="pencil")]
    both = [seen("genie"), seen("singer", 190)]
    assert look(PAIR, verdict(*grey)).faults == {"style"}
    pencil = replace(PAIR, style="pencil")
    assert look(pencil, verdict(*grey, style="pencil")).faults == set()
    assert look(pencil, verdict(*grey)).faults == {"style"}
    lava = replace(PAIR, background="lava")
    assert look(lava, verdict(*both)).faults == {"background"}
    assert look(lava, verdict(*both, background="lava")).faults == set()
    riding = replace(PAIR, relation=("riding", 0, 1))
    assert look(riding, verdict(*both)).faults == {"relation"}
    assert look(riding, verdict(seen("genie", 100, 80), seen("singer", 100, 160))).faults == set()
    assert look(riding, verdict(both[0], seen("wrong", 190))).faults == {"blended"}  # no pair to judge


def test_every_wrong_picture_has_a_fault() -> None:
    names = ("genie", "singer", "wrong", "fox")
    for first in names:
        for second in names:
            found = look(PAIR, verdict(seen(first), seen(second, 190)))
            assert found.rating.right == (not found.faults & set(FAULTS) - {"double", "extra"})


def test_a_subject_is_stood_for_by_one_of_its_class() -> None:
    found = [seen("wizard"), seen("lion", 190)]
    for asked, names in ((prompt(FOX, GENIE), ["lion", "wizard"]), (prompt(GENIE, FOX), ["wizard", "lion"])):
        chosen, faults = stand_ins(asked, found)
        assert [one.name if one else "" for one in chosen] == names
        assert faults == ["other", "other"]


def test_two_equal_findings_are_two_subjects() -> None:
    one = seen("genie")
    chosen, faults = stand_ins(PAIR, [one, replace(one)])
    assert (faults, len({id(finding) for finding in chosen})) == (["", "swapped"], 2)
    assert look(PAIR, verdict(one, replace(one), replace(one))).faults == {"swapped", "double"}
    assert look(prompt(GENIE, SINGER, FOX), verdict(one, replace(one), replace(one))).faults == {"swapped"}


def test_shares_own_and_leak() -> None:
    mixed = seen("", 190, genie=0.35, singer=0.6, wrong=0.05)
    found = look(PAIR, verdict(seen("genie", genie=0.8, wrong=0.1), mixed))
    assert found.shares[1] == ("singer", {"genie": 0.35, "singer": 0.6, "wrong": 0.05, "other": pytest.approx(0.0)})
    assert found.own == pytest.approx(0.7)
    assert found.leak == pytest.approx(0.175)
    twice = look(PAIR, verdict(seen("genie"), seen("genie", 190)))
    assert twice.own == pytest.approx(0.45)
    assert twice.leak == pytest.approx(0.45)
    nobody = look(PAIR, verdict())
    assert (nobody.shares, nobody.own, nobody.leak) == ((), None, None)


def _rows(asked: Prompt = PAIR) -> list[Rated]:
    good, bad = verdict(seen("genie"), seen("singer", 190)), verdict(seen("genie"))

    def result(seed: int, method: str, found: Verdict) -> Result:
        return Result(asked, seed, method, f"{method}{seed}", 2.0, found)

    results = [
        result(0, "default", good),
        result(1, "default", good),
        result(0, "merge", bad),
        result(1, "merge", good),
    ]
    return rated(results, [{"least": 0.5}, {"least": 0.7}, {"least": 0.2}, {}])


def test_a_summary() -> None:
    rows = [row for row in _rows() if row.result.method == "merge"]
    told = summarize(rows)
    assert (told["prompts"], told["pictures"]) == (1, 2)
    means = {name: told[name]["mean"] for name in ("present", "right", "exact", "omitted", "own", "leak", "like least")}
    assert means == {"present": 0.5, "right": 0.5, "exact": 0.5, "omitted": 0.25, "own": 0.9, "leak": 0.0,
                     "like least": 0.2}  # fmt: skip
    assert "like leak" not in told
    assert {name for name, share in told["faults"].items() if share} == {"missing"}
    assert told["faults"]["missing"] == 0.5


def test_differences_are_paired_by_prompt_and_seed() -> None:
    rows = _rows()
    merge, default = (([row for row in rows if row.result.method == name]) for name in ("merge", "default"))
    right = next(measure for measure in MEASURES if measure.name == "right")
    least = next(measure for measure in MEASURES if measure.name == "like least")
    gap, like = difference(merge, default, right), difference(merge, default, least)
    assert gap is not None
    assert gap["mean"] == -0.5
    assert like is not None
    assert like["mean"] == pytest.approx(-0.3)  # only seed 0 has both
    assert difference(merge[:1], default[1:], right) is None


def test_the_matrix() -> None:
    found = matrix(_rows())
    assert found["genie"] == {"genie": 0.9, "singer": 0.0, "wrong": 0.0, "other": pytest.approx(0.1)}
    assert list(found) == ["genie", "singer"]


def test_the_tables() -> None:
    single = prompt(GENIE, name="s", group="single")
    rows = [*_rows(), *_rows(single)]
    told = report(rows, "default")
    assert set(told) == {"all", "same class", "single"}
    assert told["all"]["merge"]["pictures"] == 2  # without the single LoRAs
    assert "difference" not in told["all"]["default"]
    text = tables(told, "default")
    assert "(1 prompts, 2 pictures of each method)" in text
    assert "| plain merge | 50 % (" in text
    assert "| -50 (-50 to -50) |" in text
    assert "| genie | 90 | 0 | 0 | 10 |" in text
    assert "to others" not in text
    assert "(1 prompts, 1 of them not composed, 2 pictures" in tables(report(rows, "default", ["p"]), "default")
    assert tables(report(_rows(), "fast"), "fast").count("| –") == 4  # nothing to compare with


def test_a_style_on_one_is_asked_of_that_one() -> None:
    one = prompt(GENIE, Instance("person", "singer", "pencil"))
    right: tuple[Finding, ...] = (seen("genie"), seen("singer", 190, style="pencil"))
    assert look(one, verdict(*right)).faults == set()
    swapped = (seen("genie", style="pencil"), seen("singer", 190))
    assert look(one, verdict(*swapped)).faults == {"style"}
