"""The room of the places that the user gave: a box and a margin around it, so that a hat above it is not cut off."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..prompt.region import Box, Region

MARGIN = 0.06
"""How far a subject may be drawn beyond its box, in parts of the picture's shorter side."""


def rooms(regions: Sequence[Region | None], height: int, width: int) -> list[Tensor | None]:
    """Where each concept is drawn that has a region, (height, width) of 0 and 1; None for one without.

    A painted region is its own room. A box's room is the box and a margin of cells that are in no other room: people
    draw boxes a little too small, and what is outside of them the base would draw without the LoRA.
    """
    if not any(regions):
        return [None] * len(regions)
    cells = round(MARGIN * min(height, width))
    own = [None if region is None else region.grid(height, width) for region in regions]
    wide = [
        _grown(grid, cells) if isinstance(region, Box) and grid is not None else grid
        for region, grid in zip(regions, own, strict=True)
    ]
    alone = torch.stack([grid for grid in wide if grid is not None]).sum(0) == 1
    return [
        None if grid is None or room is None else torch.maximum(grid, room * alone)
        for grid, room in zip(own, wide, strict=True)
    ]


def is_room(mask: Tensor, region: Region) -> bool:
    """Whether a mask (h, w) of 0 and 1 is the region, or a box with its margin or a part of it."""
    grid = region.grid(mask.shape[0], mask.shape[1]).to(mask)
    if not isinstance(region, Box):
        return torch.equal(mask, grid)
    wide = _grown(grid, round(MARGIN * min(mask.shape)))
    return bool(((mask >= grid) & (mask <= wide)).all())


def _grown(grid: Tensor, cells: int) -> Tensor:
    """The grid (h, w) with a margin of so many cells."""
    return F.max_pool2d(grid[None, None], 2 * cells + 1, stride=1, padding=cells)[0, 0]
