"""The area of a detail pass: a subject's mask, grown, with a soft edge; and the crop around it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clora.pictures.detail_area import crop_of, detail_area, touched, without_specks


def boxes(*given: tuple[int, int, int, int], side: int = 64) -> torch.Tensor:
    """Masks with one box (left, top, right, bottom) each."""
    masks = torch.zeros(len(given), side, side)
    for mask, (left, top, right, bottom) in zip(masks, given, strict=True):
        mask[top:bottom, left:right] = 1
    return masks


def area_of(masks: torch.Tensor, subject: int = 0, size: tuple[int, int] = (512, 512)) -> np.ndarray:
    return np.asarray(detail_area(masks, subject, size))


def test_it_is_full_on_the_subject_soft_around_it_and_zero_beyond() -> None:
    area = area_of(boxes((20, 24, 40, 44)))
    assert area.dtype == np.uint8
    assert (area[24 * 8 : 44 * 8, 20 * 8 : 40 * 8] >= 250).all()
    assert 0 < area[256, 20 * 8 - 20] < 255  # two cells beside it
    assert area[:, : 16 * 8 + 4].max() == area[: 20 * 8 + 4].max() == 0
    steps = np.abs(np.diff(area[256].astype(int)))
    assert steps.max() <= 255 / 16, "the edge is no step"


def test_at_the_pictures_border_it_has_no_edge() -> None:
    area = area_of(boxes((0, 20, 20, 40)))
    assert (area[20 * 8 : 40 * 8, 0] >= 250).all()


def test_it_does_not_grow_into_another_subject_but_keeps_what_they_share() -> None:
    beside = area_of(boxes((10, 20, 30, 40), (30, 20, 50, 40)))
    assert beside[240, 32 * 8 :].max() == 0
    assert beside[240, 29 * 8 - 4] >= 150
    shared = area_of(boxes((10, 20, 34, 40), (26, 20, 50, 40)))
    assert (shared[22 * 8 : 38 * 8, 12 * 8 : 32 * 8] >= 250).all()


def test_specks_are_left_out() -> None:
    masks = boxes((10, 10, 20, 20), (40, 40, 60, 60), (0, 0, 0, 0))
    masks[0, 50:54, 50:56] = 1  # 24 of 100 cells, on the other subject
    masks[1, 0:10, 50:60] = 1
    found = without_specks(masks)
    assert torch.equal(found[0], boxes((10, 10, 20, 20))[0])
    assert torch.equal(found[1:], masks[1:])


@pytest.mark.parametrize("size", [(640, 384), (130, 130), (1024, 1536)])
def test_it_has_the_pictures_size(size: tuple[int, int]) -> None:
    masks = torch.zeros(1, size[1] // 8 // 2, size[0] // 8 // 2)
    masks[0, 4:6, 3:6] = 1
    found = detail_area(masks, 0, size)
    assert (found.mode, found.size) == ("L", size)
    assert touched(found).getextrema() == (0, 255)
    assert touched(found).getbbox() == found.getbbox()


def box_area(*box: int, size: tuple[int, int] = (512, 512)) -> Image.Image:
    area = Image.new("L", size)
    area.paste(255, box)
    return area


def test_the_crop_has_the_sides_that_are_asked_for() -> None:
    crop = crop_of(box_area(100, 100, 300, 200), 512)
    assert crop.padding == 32
    assert (crop.width, crop.height) == (512, 320)  # 264 x 164


@pytest.mark.parametrize(
    ("box", "size", "side", "drawn"),
    [
        ((0, 0, 512, 512), (512, 512), 512, (512, 512)),
        ((0, 0, 1024, 1536), (1024, 1536), 512, (1024, 1536)),  # never smaller than it is
        ((250, 250, 254, 254), (512, 512), 512, (512, 512)),  # a small subject keeps its surroundings
        ((200, 20, 210, 500), (512, 512), 512, (256, 512)),  # no narrow strips
        ((10, 10, 60, 60), (64, 64), 512, (512, 512)),
        ((10, 10, 20, 20), (64, 1024), 1024, (256, 1024)),  # as wide as the picture is
        ((100, 100, 300, 200), (512, 512), 8, (320, 192)),
    ],
)
def test_sides_at_the_limits(
    box: tuple[int, int, int, int], size: tuple[int, int], side: int, drawn: tuple[int, int]
) -> None:
    crop = crop_of(box_area(*box, size=size), side)
    assert (crop.width, crop.height) == drawn
    assert crop.width % 64 == crop.height % 64 == 0


def test_a_small_subject_is_not_enlarged_too_much() -> None:
    crop = crop_of(box_area(250, 250, 260, 260), 1024)
    assert 10 + 2 * crop.padding >= 256
