"""The judge of identity: its training scenes, targets, cuts and rules, with plain shapes and untrained networks."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from clora.page.cards import THUMBNAILS
from research.characters.art import stand_in
from research.characters.judge import Finding, Judge, Verdict
from research.characters.judge.augment import augment
from research.characters.judge.check import nearest
from research.characters.judge.features import similarity
from research.characters.judge.hard import NAMES, WAYS, WRONG, BlendArt, Label, blend, draw, hard_scene
from research.characters.judge.judge import WEIGHTS, peaks, to_tensor
from research.characters.judge.network import Networks, cut, finder_targets, finding_loss
from research.characters.render import Renderer
from research.characters.words import CHARACTERS

pytestmark = pytest.mark.usefixtures("one_thread")


def test_hard_scenes_have_right_and_wrong_subjects() -> None:
    rng, renderer = random.Random(0), Renderer(BlendArt(stand_in()))
    names = [label.name for _ in range(40) for label in draw(renderer, hard_scene(rng))[1]]
    assert names.count(WRONG) > 10
    assert len({NAMES[name] for name in names if name != WRONG} & set(CHARACTERS)) > 5
    assert all(name <= WRONG for name in names)


@pytest.mark.parametrize("way", WAYS)
def test_blends_differ_from_both(way: str) -> None:
    first, second = (stand_in().picture(file) for file in ("1f98a", "1fac5"))
    mixed = blend(first, second, way, random.Random(0))
    assert mixed.size == first.size
    for other in (first, second.resize(first.size)):
        assert np.abs(np.asarray(mixed, int) - np.asarray(other, int)).mean() > 3


def test_peaks_of_perfect_answers_are_the_subjects() -> None:
    labels = [Label(3, 0, 70.0, 90.0, 110.0, 1.0), Label(5, 0, 190.0, 150.0, 120.0, 1.0)]
    hidden = Label(7, 0, 120.0, 40.0, 100.0, 0.1)
    target = finder_targets([[*labels, hidden]])[0]
    answer = torch.stack([torch.logit(target[0].clamp(1e-4, 1 - 1e-4)), *target[1:4]])
    found = sorted(peaks(answer))
    assert [(x, y) for x, y, _, _ in found] == [(70.0, 90.0), (190.0, 150.0)]
    assert [side for _, _, side, _ in found] == pytest.approx([110, 120], rel=0.01)
    assert finding_loss(answer[None], target[None]) < 0.1
    assert finding_loss(torch.zeros(1, 4, 16, 16), target[None]) > 1


def test_cuts_show_the_place() -> None:
    picture = torch.zeros(1, 3, 256, 256)
    picture[:, :, 100:140, 60:100] = 1.0
    crop = cut(picture, torch.tensor([0]), torch.tensor([[80.0, 120.0, 40.0]]))
    assert crop.shape == (1, 3, 64, 64)
    assert crop[..., 8:56, 8:56].mean() > 0.99
    assert crop.mean() < 0.9


def test_an_untrained_judge_reads_pictures() -> None:
    torch.manual_seed(0)
    rng, judge = random.Random(0), Judge(Networks())
    pictures = [draw(Renderer(BlendArt(stand_in())), hard_scene(rng))[0] for _ in range(2)]
    assert len(judge(pictures)) == 2
    assert judge([]) == []
    harmed = augment(to_tensor(pictures * 2), torch.Generator().manual_seed(0))
    assert harmed.shape == (4, 3, 256, 256)
    assert 0 <= harmed.min() <= harmed.max() <= 1


def test_an_unsure_name_is_wrong() -> None:
    sure = Finding(10, 10, 100, 0.9, {"genie": 0.6, "wrong": 0.3, "fox": 0.1}, {"none": 0.9, "pencil": 0.1})
    torn = Finding(90, 10, 100, 0.9, {"genie": 0.45, "singer": 0.4, "fox": 0.1}, {"none": 0.2, "pencil": 0.8})
    assert (sure.name, sure.style, torn.name, torn.style) == ("genie", "none", "wrong", "pencil")
    assert nearest([sure, torn], 85, 15, 100) is torn
    assert nearest([sure], 85, 15, 100) is None


def test_similarity_is_high_on_its_own_and_low_across() -> None:
    known = {"genie": torch.tensor([[1.0, 0.0], [1.0, 0.0]]), "singer": torch.tensor([[0.0, 1.0]])}
    right = similarity(["genie", "singer"], torch.eye(2), known)
    assert (right.least, right.mean, right.greatest, right.leak) == (1, 1, 1, 0)
    swapped = similarity(["genie", "singer"], torch.eye(2).flip(0), known)
    assert (swapped.mean, swapped.leak) == (0, 1)
    assert similarity(["genie"], torch.eye(2)[:1], known).leak == 0


@pytest.mark.parametrize("name", [name for name in CHARACTERS if name != "tophat"])
def test_the_judge_names_the_characters_on_the_cards(name: str) -> None:
    """Pictures of the embedded model, which are no renders."""
    (verdict,) = shipped([Image.open(THUMBNAILS / f"{name}.webp").convert("RGB").resize((256, 256))])
    assert (verdict.names, verdict.background, verdict.style) == ([name], "snow", "none")


@pytest.mark.parametrize("style", ["pencil", "gold", "comic"])
def test_the_judge_names_the_styles_on_the_cards(style: str) -> None:
    (verdict,) = shipped([Image.open(THUMBNAILS / f"{style}.webp").convert("RGB").resize((256, 256))])
    assert (verdict.names, verdict.style) == (["fox"], style)


def test_the_judge_refuses_a_mix_of_two_characters() -> None:
    genie, singer = (Image.open(THUMBNAILS / f"{name}.webp").convert("RGB").resize((256, 256))
                     for name in ("genie", "singer"))  # fmt: skip
    (verdict,) = shipped([Image.blend(genie, singer, 0.5)])
    assert "wrong" in verdict.names
    assert not {"genie", "singer"} & set(verdict.names)


def shipped(pictures: list[Image.Image]) -> list[Verdict]:
    return Judge(WEIGHTS)(pictures)
