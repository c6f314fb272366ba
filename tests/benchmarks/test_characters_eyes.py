"""Labels by eye: which pictures are chosen, what is on the sheets, and agreement against values computed by hand."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.characters.eyes import Label, agreement, compare, load_labels, sample, wanted, write_sheets
from benchmarks.characters.methods import METHODS
from benchmarks.characters.run import Run, Store
from clora.errors import CLoRAError
from research.characters.judge.rate import Rating, rate
from research.characters.prompts import Instance
from tests.benchmarks.characters import GENIE, SINGER, NoFiles, prompt, seen, verdict

THREE = [METHODS[name] for name in ("merge", "default", "fast")]


def test_pictures_are_of_all_groups_and_methods_and_shuffled(tmp_path: Path) -> None:
    prompts = [prompt(GENIE, SINGER, name=f"{group}{i}", group=group) for group in "ab" for i in range(9)]
    run = Run(Store(tmp_path, "j"), NoFiles())
    chosen = sample(prompts, THREE, range(2), run, 30)
    assert len({(one.id, method.name, seed) for one, method, seed in chosen}) == 30
    assert Counter(one.group for one, _, _ in chosen) == {"a": 15, "b": 15}
    assert Counter(method.name for _, method, _ in chosen) == {"merge": 10, "default": 10, "fast": 10}
    assert [one.group for one, _, _ in chosen[:4]] not in (["a", "b"] * 2, ["a"] * 4)
    assert sample(prompts, THREE, range(2), run, 30) == chosen
    assert len(sample(prompts, THREE, range(2), run, 999)) == 108


def test_pictures_that_are_the_same_are_chosen_once(tmp_path: Path) -> None:
    usual = [replace(prompt(GENIE, SINGER, name=str(i)), prompt=f"usual {i}") for i in range(3)]
    assert len(sample(usual, THREE, range(2), Run(Store(tmp_path, "j"), NoFiles()), 99)) == 6


def test_what_is_wanted_names_no_method() -> None:
    asked = prompt(GENIE, Instance("turtle", "turtle", "pencil"), relation=("riding", 0, 1), background="lava")
    assert wanted(asked) == "genie + turtle in pencil, genie riding turtle, on lava"
    assert wanted(prompt(GENIE, SINGER, style="comic")) == "genie + singer, all in comic"


def test_sheets_are_numbered(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (256, 256), colour) for colour in ["red"] * 12 + ["blue"]]
    assert write_sheets(tmp_path, pictures, ["text"] * 13) == 2
    first, second = (Image.open(tmp_path / f"sheet-0{number}.png").convert("RGB") for number in (1, 2))
    assert first.size == second.size
    assert first.getpixel((1100, 900)) == (255, 0, 0)
    assert second.getpixel((100, 100)) == (0, 0, 255)
    assert second.getpixel((1100, 900)) == (255, 255, 255)
    text = (0, 316, 314, 384)
    assert first.crop(text).getcolors() != second.crop(text).getcolors()  # "1: text" and "13: text"


def test_labels_are_answers_or_empty(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    answers = {"1": {"present": True, "right": False}, "2": {"present": None, "right": None}}
    path.write_text(json.dumps(answers))
    assert load_labels(path) == [Label("1", True, False)]
    path.write_text(json.dumps({"3": {"present": True, "right": "yes"}}))
    with pytest.raises(CLoRAError, match="Label 3"):
        load_labels(path)


@pytest.mark.parametrize(
    ("text", "match"),
    [(None, "run `draw`"), ("{", "no JSON"), ("[1]", "one entry"), ('{"4": true}', "Label 4")],
)
def test_labels_that_cannot_be_read_are_one_sentence(tmp_path: Path, text: str | None, match: str) -> None:
    path = tmp_path / "labels.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CLoRAError, match=match):
        load_labels(path)


def _ratings() -> list[Rating]:
    pair = prompt(GENIE, SINGER)
    return [rate(pair, verdict(seen("genie"), seen("singer", 190))), rate(pair, verdict(seen("genie")))]


def test_agreement_with_eyes() -> None:
    good, bad = _ratings()
    labels = [Label("1", True, True), Label("2", True, False), Label("3", False, False)]
    told = compare(labels, [good, good, bad], ["a, merge", "b, fast", "c, fast"])
    # chance agrees in 1/3 x 2/3 + 2/3 x 1/3 = 4/9, so kappa is (2/3 - 4/9) / (5/9)
    assert "right: 2 of 3 agree (67 %, kappa 0.40), 1 of 1 seen yes, 1 of 2 seen no\n  2 (b, fast): seen no" in told
    assert "present: 3 of 3 agree (100 %, kappa 1.00), 2 of 2 seen yes, 1 of 1 seen no" in told
    assert told.count("the other way") == 1
    assert agreement([(True, True)] * 3) == "3 of 3 agree (100 %), 3 of 3 seen yes, 0 of 0 seen no"
