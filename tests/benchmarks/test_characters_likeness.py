"""Likeness to references: which crop counts for which LoRA, and what is stored; features are colours here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from benchmarks.characters.likeness import Likeness, by_art, measured
from benchmarks.characters.methods import METHODS
from benchmarks.characters.run import Run, Store
from clora.errors import CLoRAError
from research.characters.judge.network import cut
from tests.benchmarks.characters import FOX, GENIE, SINGER, Drawer, NoFiles, prompt, seen, verdict

KNOWN = {"genie": torch.eye(3)[:1].repeat(2, 1), "singer": torch.eye(3)[2:]}  # red and blue


def colours(picture: Tensor, places: Tensor) -> Tensor:
    crops = cut(picture, torch.zeros(len(places), dtype=torch.long), places)
    return F.normalize(crops[:, :, 16:48, 16:48].mean((2, 3)), dim=1)


def halves(left: str, right: str) -> Image.Image:
    picture = Image.new("RGB", (256, 256), left)
    picture.paste(right, (128, 0, 256, 256))
    return picture


BOTH = verdict(seen("wrong", 64), seen("wrong", 192))  # names do not count, places do
PAIR = ("genie", "singer")


@pytest.mark.parametrize("sides", [("red", "blue"), ("blue", "red")])
def test_each_lora_has_the_crop_that_suits_it(sides: tuple[str, str]) -> None:
    found = Likeness(colours, KNOWN)(halves(*sides), BOTH, PAIR)
    assert found == pytest.approx({"least": 1, "mean": 1, "greatest": 1, "leak": 0}, abs=1e-5)


def test_a_lora_that_is_missing_is_compared_with_the_other() -> None:
    twice = Likeness(colours, KNOWN)(halves("red", "red"), BOTH, PAIR)
    alone = Likeness(colours, KNOWN)(halves("red", "red"), verdict(seen("genie", 64)), PAIR)
    assert twice == alone == pytest.approx({"least": 0, "mean": 0.5, "greatest": 1, "leak": 0.5}, abs=1e-5)


def test_two_loras_do_not_share_a_crop_if_there_are_two() -> None:
    known = {"genie": KNOWN["genie"], "singer": torch.tensor([[0.8, 0.6, 0.0]])}  # both are most like red
    found = Likeness(colours, known)(halves("red", "lime"), BOTH, PAIR)
    assert found["mean"] == pytest.approx((1 + 0.6) / 2, abs=1e-5)


def test_an_empty_picture_and_one_lora() -> None:
    found = Likeness(colours, KNOWN)(halves("blue", "blue"), verdict(), ["singer"])
    assert found == pytest.approx({"least": 1, "mean": 1, "greatest": 1})  # no leak with one LoRA


def test_measures_are_stored(tmp_path: Path) -> None:
    store, calls = Store(tmp_path, "j"), []

    def counted(picture: Tensor, places: Tensor) -> Tensor:
        calls.append(len(places))
        return colours(picture, places)

    method = replace(METHODS["merge"], draw=Drawer("red"))
    prompts = [prompt(GENIE, SINGER, name="a"), prompt(GENIE, name="b"), prompt(FOX, name="c")]
    results = Run(store, NoFiles()).results(prompts, [method], range(1))
    first = measured(store, "j", Likeness(counted, KNOWN), results)
    assert first[0]["leak"] == pytest.approx(0.5, abs=1e-5)
    assert set(first[1]) == {"least", "mean", "greatest"}
    assert first[2] == {}  # no LoRA is asked for
    assert measured(store, "j", Likeness(counted, KNOWN), results) == first
    assert calls == [1, 1]
    measured(store, "other", Likeness(counted, KNOWN), results)
    assert len(calls) == 4  # another judge finds other places


def test_missing_art_is_said(tmp_path: Path) -> None:
    with pytest.raises(CLoRAError, match=r"art .* is missing"):
        by_art(tmp_path / "art.zip")
