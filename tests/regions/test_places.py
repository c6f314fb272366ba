"""Places of their own: where the maps show the subjects, never two in one place."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from clora.prompt.region import Box, Painted, Region, parse_region
from clora.regions.places import APART, FARTHER, MARGIN, cells, centres
from clora.regions.room import is_room, rooms


def blob(*places: tuple[float, float], size: tuple[int, int] = (16, 16)) -> Tensor:
    """A map (h, w) with a round spot at each place, y and x in parts of the shorter side."""
    short = min(size)
    y, x = torch.meshgrid((torch.arange(size[0]) + 0.5) / short, (torch.arange(size[1]) + 0.5) / short, indexing="ij")
    return torch.stack([torch.exp(-((y - a) ** 2 + (x - b) ** 2) / 0.01) for a, b in places]).amax(0)


def test_two_of_a_class_get_the_two_spots_that_both_maps_show() -> None:
    both = blob((0.6, 0.75), (0.5, 0.25))
    found = centres(torch.stack([both, 0.9 * both]), ["sks person", "sks person"])
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.25], [0.6, 0.75]]), atol=0.03, rtol=0)


def test_of_two_above_each_other_the_upper_one_is_first() -> None:
    both = blob((0.75, 0.5), (0.25, 0.5))
    found = centres(torch.stack([both, both]), ["cat", "cat"])
    assert found[0, 0] < found[1, 0]


def test_two_classes_get_their_own_spots_though_each_map_shows_a_little_of_the_other() -> None:
    one, other = blob((0.3, 0.3)), blob((0.7, 0.7))
    found = centres(torch.stack([one + 0.6 * other, other + 0.6 * one]), ["fox", "owl"])
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.3], [0.7, 0.7]]), atol=0.05, rtol=0)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_one_spot_for_all_of_a_class_is_shared_out_sideways(count: int) -> None:
    maps = blob((0.6, 0.5)).expand(count, 16, 16)
    found = centres(maps, ["person"] * count)
    least = APART * min(1.0, (3 / count) ** 0.5)
    assert all(float((a - b).norm()) > 0.7 * least for a, b in combinations(found, 2))
    assert (found[:, 1] + 0.3 * found[:, 0]).diff().min() > 0, "from left to right in the order of the prompt"
    assert float(found.min()) >= MARGIN - 1e-6
    assert float(found.max()) <= 1 - MARGIN + 1e-6


def test_a_map_that_shows_nothing_gets_a_place_beside_the_others() -> None:
    found = centres(torch.stack([blob((0.5, 0.5)), torch.zeros(16, 16)]), ["fox", "owl"])
    assert torch.isfinite(found).all()
    assert float((found[0] - found[1]).norm()) > 0.2


def test_a_wide_picture_is_wide() -> None:
    found = centres(torch.stack([blob((0.5, 0.4), (0.5, 1.6), size=(8, 16))] * 2), ["cat", "cat"])
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.4], [0.5, 1.6]]), atol=0.05, rtol=0)


def test_subjects_of_a_class_keep_their_places() -> None:
    both = blob((0.6, 0.75), (0.5, 0.25)).expand(2, 16, 16)
    found = centres(both, ["person", "person"], torch.tensor([[0.5, 0.7], [0.5, 0.3]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.75], [0.5, 0.25]]), atol=0.03, rtol=0)


def test_a_centre_stays_on_one_thing_where_a_map_shows_two() -> None:
    one = blob((0.3, 0.3)) + 0.9 * blob((0.7, 0.8))
    found = centres(torch.stack([one, blob((0.3, 0.8))]), ["fox", "owl"])
    torch.testing.assert_close(found[0], torch.tensor([0.3, 0.3]), atol=0.05, rtol=0)


def test_cells_share_out_the_picture() -> None:
    shared = cells(torch.tensor([[0.5, 0.25], [0.5, 0.75]]), [None, None], (32, 32))
    assert torch.equal(shared.sum(0), torch.ones(32, 32))
    assert torch.equal(shared[0], parse_region("left", "test").grid(32, 32))


@pytest.mark.parametrize("place", ["left", "10 10 30 30"])
def test_a_region_of_the_user_is_its_concepts_and_the_others_share_the_rest(place: str) -> None:
    region: Region = parse_region(place, "test")
    shared = cells(torch.tensor([[0.5, 0.5], [0.5, 0.25], [0.5, 0.75]]), [region, None, None], (32, 32))
    assert torch.equal(shared[:1], torch.stack([one for one in rooms([region], 32, 32) if one is not None]))
    assert torch.equal(shared.sum(0), torch.ones(32, 32))


def test_an_item_has_the_cells_that_are_much_nearer_to_it_than_to_who_has_it() -> None:
    bearer, item = (0.6, 0.5), (0.3, 0.5)
    middle, points = torch.tensor([bearer, item]), (torch.arange(32) + 0.5) / 32
    far = torch.stack([(points[:, None] - y) ** 2 + (points - x) ** 2 for y, x in (bearer, item)])
    own = cells(middle, (None, None), (32, 32), items=(1,))
    assert torch.equal(own[1].bool(), far[1].sqrt() * FARTHER < far[0].sqrt())
    assert torch.equal(own.sum(0), torch.ones(32, 32))
    assert own[1].sum() < cells(middle, (None, None), (32, 32))[1].sum()


def test_a_subject_may_reach_a_little_beyond_its_box_where_nobody_else_is() -> None:
    boxes = [Box(0.0, 0.25, 0.5, 0.5), Box(0.5, 0.5, 0.5, 0.5), None]
    first, second, nowhere = rooms(boxes, 32, 32)
    assert first is not None
    assert second is not None
    assert nowhere is None
    # All around but where the other one's room is, too.
    pieces = ((0.0, 0.1875, 0.5, 0.5625), (0.0, 0.75, 0.4375, 0.0625), (0.5, 0.1875, 0.0625, 0.25))
    assert torch.equal(first, torch.stack([Box(*one).grid(32, 32) for one in pieces]).sum(0))
    assert not bool((first * second).any())
    assert is_room(first, Box(0.0, 0.25, 0.5, 0.5))
    assert not is_room(first, Box(0.5, 0.5, 0.5, 0.5))
    assert not is_room(torch.ones(32, 32), Box(0.0, 0.25, 0.5, 0.5))
    assert not is_room(first, Painted(Box(0.0, 0.25, 0.5, 0.5).grid(32, 32)))


@pytest.mark.parametrize("size", [(16, 16), (32, 64), (1, 1)])
def test_a_painted_place_and_overlapping_boxes_are_kept(size: tuple[int, int]) -> None:
    mask = torch.zeros(size)
    mask[: size[0] // 2 + 1] = 1
    (painted,) = rooms([Painted(mask)], *size)
    assert painted is not None
    assert torch.equal(painted, mask)
    box = Box(0.0, 0.0, 1.0, 1.0)
    assert all(one is not None and bool(one.all()) for one in rooms([box, box], *size))
