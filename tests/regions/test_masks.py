"""Masks against the authors' numbers, and the rules beside them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from clora.regions.masks import MaskOptions, cut_masks, resize_masks, smooth_maps
from tests.conftest import DATA

UNITS = json.loads((DATA / "units.json").read_text("utf-8"))
TENSORS = load_file(DATA / "units.safetensors")


@pytest.mark.parametrize("case", UNITS["mask"], ids=lambda c: str(c["id"]))
def test_authors_masks(case: dict) -> None:
    maps = TENSORS[case["maps"]]
    options = MaskOptions(
        threshold=case["alpha"],
        dilate=case.get("mask_dilate", False),
        erode=case.get("mask_erode", False),
        opening=case.get("mask_opening", False),
        closing=case.get("mask_closing", False),
    )
    token_maps = [maps[v].permute(2, 0, 1)[tokens] for v, tokens in enumerate(case["mask_indices"])]
    masks = resize_masks(cut_masks(token_maps, options), tuple(case["size"]))
    assert torch.equal(masks.to(torch.uint8), TENSORS[f"mask/{case['id']}"])


def blobs() -> list[torch.Tensor]:
    """No map for the base, one blob on the left for concept 1, one on the right for concept 2."""
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)
    left = torch.exp(-8 * ((x[None, :] + 0.5) ** 2 + x[:, None] ** 2))
    return [left.new_zeros(0, 8, 8), left[None], left.flip(1)[None]]


@pytest.mark.parametrize("relative_to", ["max", "range"])
def test_zero_map_gives_an_empty_mask(relative_to: str) -> None:
    maps = blobs()
    maps[1] = torch.zeros_like(maps[1])
    masks = cut_masks(maps, MaskOptions(relative_to=relative_to))
    assert masks[1].sum() == 0
    assert masks[2].sum() > 0
    assert torch.equal(masks[0], 1 - masks[2])


def test_range_threshold_ignores_a_floor_under_the_map() -> None:
    """Maps that never fall to zero cover everything with lambda * max, but not with their range."""
    maps = [m + 1.0 if len(m) else m for m in blobs()]
    assert cut_masks(maps, MaskOptions(0.3, "max"))[1].all()
    assert 0 < cut_masks(maps, MaskOptions(0.5, "range"))[1].mean() < 0.5


def test_constant_map_claims_nothing_by_range() -> None:
    maps = blobs()
    maps[1] = torch.full_like(maps[1], 0.2)
    assert cut_masks(maps, MaskOptions(0.5, "range"))[1].sum() == 0


def test_argmax_gives_every_place_to_one_variant() -> None:
    average = cut_masks(blobs(), MaskOptions(0.01, "range"))
    split = cut_masks(blobs(), MaskOptions(0.01, "range", overlap="argmax"))
    assert (average.sum(0) > 1).any()
    assert (split.sum(0) == 1).all()
    assert split[1, 4, 0] == 1
    assert split[2, 4, 7] == 1
    assert torch.equal(split[1:].sum(0) > 0, average[1:].sum(0) > 0)


def test_every_place_is_covered() -> None:
    for threshold in (0.0, 0.5, 1.0):
        for overlap in ("average", "argmax"):
            masks = cut_masks(blobs(), MaskOptions(threshold, "range", overlap=overlap))
            assert (masks.sum(0) > 0).all()


def test_smoothing_keeps_constants_and_spreads_a_point() -> None:
    point = torch.zeros(1, 5, 5, dtype=torch.float64)
    point[0, 2, 2] = 1.0
    smooth = smooth_maps(point)
    assert smooth.sum().item() == pytest.approx(1.0)
    assert smooth[0, 2, 3] > smooth[0, 3, 3] > 0
    torch.testing.assert_close(smooth_maps(torch.ones(2, 4, 6)), torch.ones(2, 4, 6))


def test_smoothing_changes_the_cut() -> None:
    maps = [torch.zeros(0, 6, 6), torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)]
    maps[1][0, 2, 2] = maps[2][0, 4, 4] = 1.0
    assert cut_masks(maps, MaskOptions(0.1))[1].sum() == 1
    assert cut_masks(maps, MaskOptions(0.1, smooth=True))[1].sum() == 5


def test_resize_is_nearest_and_keeps_aspect() -> None:
    masks = torch.zeros(1, 3, 5)
    masks[0, 1, 4] = 1
    big = resize_masks(masks, (12, 20))
    assert big.shape == (1, 12, 20)
    assert torch.equal(big[0].nonzero().amin(0), torch.tensor([4, 16]))
    assert torch.equal(big[0].nonzero().amax(0), torch.tensor([7, 19]))
    assert set(big.unique().tolist()) == {0.0, 1.0}


def ramp(size: int = 8) -> list[torch.Tensor]:
    """Maps of the base and one concept, whose map rises from left to right."""
    return [torch.zeros(0, size, size), torch.linspace(0, 1, size).expand(1, size, size).clone()]


def test_masks_of_the_latent_grid_end_inside_a_map_cell() -> None:
    options = MaskOptions(0.5, "range")
    cells = resize_masks(cut_masks(ramp(), options, (32, 32)), (32, 32))
    fine = cut_masks(ramp(), replace(options, threshold=0.43, grid="latent"), (32, 32))
    assert cells.shape == fine.shape == (2, 32, 32)
    assert int(cells[1, 0].sum()) % 4 == 0
    assert int(fine[1, 0].sum()) % 4 != 0
    assert torch.equal(fine.sum(0), torch.ones(32, 32))
    assert fine[1, 0, -1] == 1
    assert fine[1, 0, 0] == 0


def test_the_latent_grid_keeps_the_shape_of_odd_pictures_and_needs_a_size() -> None:
    options = MaskOptions(0.5, "range", overlap="argmax", grid="latent")
    maps = [torch.zeros(0, 3, 5), torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0))]
    assert cut_masks(maps, options, (11, 18)).shape == (2, 11, 18)
    assert cut_masks(maps, options).shape == (2, 3, 5)
    points = [torch.zeros(0, 4, 4), torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)]
    points[1][0, 0, 0] = points[2][0, 3, 3] = 1.0
    masks = cut_masks(points, options, (16, 16))
    assert masks[1, :4, :4].sum() == masks[1].sum() > 0
    assert masks[2, 12:, 12:].sum() == masks[2].sum() > 0
