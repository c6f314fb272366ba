"""Moves the noise of a subject to the place where the user wants it.

Where a subject will be is settled by the noise that the picture begins with, and a block of that noise takes its
subject along when it is moved (Mao et al. 2023, arXiv 2305.03382). Cells change places, none is made or lost, so that
the noise stays what it was: independent and of the same spread.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..prompt.region import Region

PURE = 0.02
"""The signal level up to which a latent is taken for noise alone; img2img is above it at strengths below 0.87."""
_THERE = 0.6
"""Part of a subject's mask inside its region from which on its noise stays."""
_Box = tuple[int, int, int, int]  # top, left, height, width


def moved_noise(
    latent: Tensor, masks: Tensor, regions: Sequence[Region | None], words: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """A latent (C, h, w) whose subjects' noise is in their regions, and the masks (1 + N, h, w) that go with it.

    `masks` tell where the subjects would be drawn, the base's first. Of two subjects with the same `words` one that is
    in the other's region takes its part, without a move. A latent that needs no change is returned itself.
    """
    height, width = latent.shape[-2:]
    wanted = [None if one is None else one.grid(height, width).to(masks) for one in regions]
    order = _parts(masks, wanted, words)
    masks = masks[[0, *(1 + number for number in order)]]
    cells = torch.arange(height * width, device=masks.device).view(height, width)
    moved = cells
    for number, region in enumerate(wanted):
        mask = masks[1 + number]
        if region is None or not bool(mask.any()) or _inside(mask, region) >= _THERE:
            continue
        swap = _swapped(cells, *_boxes(mask, region)).flatten()
        moved = moved.flatten()[swap].view_as(cells)
        masks = masks.flatten(1)[:, swap].view_as(masks)
    if moved is not cells:
        latent = latent.flatten(1)[:, moved.flatten().to(latent.device)].view_as(latent)
    return latent, masks


def _inside(mask: Tensor, region: Tensor) -> float:
    """The part of a mask (h, w) that is in a region."""
    return float((mask * region).sum() / mask.sum().clamp_min(1e-6))


def _parts(masks: Tensor, wanted: Sequence[Tensor | None], words: Sequence[str]) -> list[int]:
    """For each subject the one whose mask it takes: its own, or that of one of its class which is in its region."""
    order = list(range(len(wanted)))
    for number, region in enumerate(wanted):
        if region is None or _inside(masks[1 + order[number]], region) >= _THERE:
            continue
        for other, own in enumerate(wanted):
            alike = other != number and words[other] == words[number]
            there = alike and _inside(masks[1 + order[other]], region) >= _THERE
            if there and (own is None or _inside(masks[1 + order[other]], own) < _THERE):
                order[number], order[other] = order[other], order[number]
                break
    return order


def _bounds(mask: Tensor) -> _Box:
    """The box round the cells above 0.5 of a mask (h, w) that has some."""
    rows, columns = (mask > 0.5).any(1).nonzero().flatten(), (mask > 0.5).any(0).nonzero().flatten()
    top, left = int(rows[0]), int(columns[0])
    return top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left


def _boxes(mask: Tensor, wanted: Tensor) -> tuple[_Box, _Box]:
    """A box of the subject's noise and one of the same size round the middle of its region, both inside the picture."""
    height, width = mask.shape
    of_mask, of_region = _bounds(mask), _bounds(wanted)
    size = tuple(min(a, max(b, 1)) for a, b in zip(of_mask[2:], of_region[2:], strict=True))
    found = []
    for top, left, tall, wide in (of_mask, of_region):
        y, x = top + (tall - size[0]) // 2, left + (wide - size[1]) // 2
        found.append((min(max(y, 0), height - size[0]), min(max(x, 0), width - size[1]), *size))
    return found[0], found[1]  # type: ignore[return-value]


def _swapped(cells: Tensor, here: _Box, there: _Box) -> Tensor:
    """For each cell (h, w) the one whose content it gets: that of `here` is in `there`, and what it covers goes back.

    Where the boxes overlap, cells of `there` alone go to those of `here` alone.
    """
    inside = []
    for top, left, tall, wide in (here, there):
        mask = torch.zeros_like(cells, dtype=torch.bool)
        mask[top : top + tall, left : left + wide] = True
        inside.append(mask)
    result = cells.clone()
    top, left, tall, wide = here
    result[inside[1]] = cells[top : top + tall, left : left + wide].flatten()
    result[inside[0] & ~inside[1]] = cells[inside[1] & ~inside[0]]
    return result
