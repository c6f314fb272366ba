"""The part of a picture that a detail pass draws again: a subject's mask, grown, with a soft edge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .outline import large_parts

_PART = 0.25
"""Parts of a mask smaller than this share of the largest one are specks."""
_GRID = 64
"""The masks' cells along a side for which the edge is one cell; finer masks get as many more cells."""
_CONTEXT = 1 / 16
"""What the crop shows around the area, as a part of the picture's longer side (32 of 512 pixels)."""
_LARGEST = 4.0
"""A crop is enlarged at most so many times: beyond that the model would see a blur."""
_NARROWEST = 0.5
"""The crop's shorter side as a part of the longer one, at least: models draw narrow strips badly."""

_STEP = 64
"""Sides are multiples of this many pixels, which any UNet can halve as often as it wants to."""


@dataclass(frozen=True)
class Crop:
    """How a crop is drawn: pixels of `padding` around the area, then scaled to `width` x `height`."""

    padding: int
    width: int
    height: int


def without_specks(masks: Tensor) -> Tensor:
    """Masks (C, h, w) without small parts, which lie on other subjects as a rule, and would be drawn over these."""
    return torch.stack([large_parts(mask, _PART) for mask in masks]).float()


def detail_area(masks: Tensor, subject: int, size: tuple[int, int]) -> Image.Image:
    """How much the new drawing counts at each pixel: an "L" picture of `size` (width, height), 255 on the subject.

    `masks` (C, h, w) of 0 and 1 are those of all concepts, without specks. The area grows into the
    background, not into what only other concepts have; two that overlap both keep the part in common. Its edge is soft
    and ends in exact zeros.
    """
    masks = (masks > 0).float()
    own = masks[subject]
    cells = max(1, round(max(own.shape) / _GRID))
    grown = F.max_pool2d(own[None, None], 4 * cells + 1, stride=1, padding=2 * cells)
    others = masks[[number for number in range(len(masks)) if number != subject]]
    if len(others):
        grown = grown * (1 - others.amax(dim=0) * (1 - own))
    # Without the padding in the mean, a subject at the picture's border has no edge there.
    soft = F.avg_pool2d(grown, 2 * cells + 1, stride=1, padding=cells, count_include_pad=False)
    fine = F.interpolate(soft, (size[1], size[0]), mode="bilinear", align_corners=False)[0, 0]
    return Image.fromarray((fine.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def touched(area: Image.Image) -> Image.Image:
    """Where an area has any part at all, in white: an "L" picture."""
    return area.point([0, *[255] * 255])


def crop_of(area: Image.Image, side: int) -> Crop:
    """The crop around an area, drawn with about `side` pixels on its longer side, and with no fewer than it has."""
    left, top, right, bottom = area.getbbox() or (0, 0, *area.size)
    parts = (right - left, bottom - top)
    padding = max(round(max(area.size) * _CONTEXT), round((side / _LARGEST - max(parts)) / 2))
    sides = [min(whole, part + 2 * padding) for whole, part in zip(area.size, parts, strict=True)]
    longer = max(sides)
    # The host widens the crop to these proportions, as far as the picture goes.
    sides = [max(one, min(whole, round(longer * _NARROWEST))) for one, whole in zip(sides, area.size, strict=True)]
    width, height = (_STEP * -(-one * max(side, longer) // (longer * _STEP)) for one in sides)
    return Crop(padding, width, height)
