"""Noise that moves: cells change places and nothing else, and only where a subject is not in its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clora.engine.composer import Composer
from clora.engine.moved_noise import PURE, moved_noise
from clora.prompt.region import Box, Region
from clora.settings import Settings
from tests.engine.test_look_ahead import PLAN, Watched
from tests.updating import updating

SIZE = 16


def mask_of(top: int, left: int, tall: int, wide: int) -> Tensor:
    mask = torch.zeros(SIZE, SIZE)
    mask[top : top + tall, left : left + wide] = 1
    return mask


def masks_of(*subjects: Tensor) -> Tensor:
    found = torch.stack(subjects)
    return torch.cat([1 - found.amax(0, keepdim=True), found])


def box(top: int, left: int, tall: int, wide: int) -> Box:
    """A region in cells."""
    return Box(left / SIZE, top / SIZE, wide / SIZE, tall / SIZE)


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def sorted_cells(latent: Tensor) -> Tensor:
    return latent.flatten(1).sort(dim=1).values


def test_a_subjects_noise_and_that_of_its_place_change_places(noise: Tensor) -> None:
    masks = masks_of(mask_of(1, 1, 4, 6), mask_of(12, 2, 3, 3))
    moved, found = moved_noise(noise, masks, [box(8, 9, 6, 6), None], ["cat", "dog"])
    assert torch.equal(moved[:, 9:13, 9:15], noise[:, 1:5, 1:7])
    assert torch.equal(moved[:, 1:5, 1:7], noise[:, 9:13, 9:15])
    assert torch.equal(sorted_cells(moved), sorted_cells(noise))
    rest = torch.ones(SIZE, SIZE, dtype=torch.bool)
    rest[9:13, 9:15] = rest[1:5, 1:7] = False
    assert torch.equal(moved[:, rest], noise[:, rest])
    assert torch.equal(found[1], mask_of(9, 9, 4, 6))
    assert torch.equal(found[2], masks[2])


def test_places_that_overlap(noise: Tensor) -> None:
    moved, found = moved_noise(noise, masks_of(mask_of(4, 2, 6, 6)), [box(5, 5, 6, 6)], ["cat"])
    assert torch.equal(moved[:, 5:11, 5:11], noise[:, 4:10, 2:8])
    assert torch.equal(sorted_cells(moved), sorted_cells(noise))
    assert torch.equal(found[1], mask_of(5, 5, 6, 6))


@pytest.mark.parametrize("region", [None, box(0, 0, 8, 8), box(2, 2, 4, 4)])
def test_a_subject_in_its_place_stays(noise: Tensor, region: Region | None) -> None:
    masks = masks_of(mask_of(1, 1, 5, 5))
    moved, found = moved_noise(noise, masks, [region], ["cat"])
    assert moved is noise
    assert torch.equal(found, masks)


def test_a_subject_without_a_mask_stays(noise: Tensor) -> None:
    assert moved_noise(noise, masks_of(torch.zeros(SIZE, SIZE)), [box(0, 0, 8, 8)], ["cat"])[0] is noise


@pytest.mark.parametrize("region", [box(0, 0, 2, 16), box(14, 14, 2, 2), box(0, 0, 1, 1), box(0, 0, 16, 16)])
def test_any_place_inside_the_picture(noise: Tensor, region: Region) -> None:
    masks = masks_of(mask_of(6, 3, 9, 12))
    moved, found = moved_noise(noise, masks, [region], ["cat"])
    assert torch.equal(sorted_cells(moved), sorted_cells(noise))
    assert found.sum() == masks.sum()


def test_of_two_of_one_class_the_one_that_is_there_takes_the_part(noise: Tensor) -> None:
    first, second = mask_of(1, 1, 5, 5), mask_of(9, 9, 5, 5)
    wanted = [box(8, 8, 8, 8), None]
    moved, found = moved_noise(noise, masks_of(first, second), wanted, ["cat", "cat"])
    assert moved is noise
    assert torch.equal(found[1:], torch.stack([second, first]))
    moved, found = moved_noise(noise, masks_of(first, second), wanted, ["cat", "dog"])
    assert torch.equal(found[1:], torch.stack([second, first])), "the other class changes places with it"
    assert torch.equal(moved[:, 9:14, 9:14], noise[:, 1:6, 1:6])
    both = [box(8, 8, 8, 8), box(8, 8, 8, 8)]
    assert torch.equal(moved_noise(noise, masks_of(first, second), both, ["cat", "cat"])[1][2], second), "it stays"


@pytest.mark.parametrize(
    ("signal", "settings", "moves"),
    [
        (0.005, updating(look_ahead=0.2), True),
        (0.005, updating(look_ahead=0.2, hint_move=False), False),
        (0.005, updating(), False),
        (2 * PURE, updating(look_ahead=0.2), False),
    ],
)
def test_it_is_done_before_the_first_step_of_pure_noise(signal: float, settings: Settings, moves: bool) -> None:
    latent = torch.randn(1, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    denoiser = Watched()
    denoiser.signal = signal
    composer = Composer(denoiser.unet, settings.replace(update_until=0.0), 10)
    places = [box(0, 0, 3, 3), box(13, 13, 3, 3)]
    concepts = [replace(one, region=region) for one, region in zip(PLAN.concepts, places, strict=True)]
    with composer.installed():
        before = composer.before(0, latent, [replace(PLAN, concepts=tuple(concepts))], denoiser)
        unplaced = composer.before(1, latent, [PLAN], denoiser)
    assert torch.equal(before, latent) is not moves
    assert torch.equal(unplaced, latent)
    assert torch.equal(sorted_cells(before[0]), sorted_cells(latent[0]))
