"""Outlines of regions in a picture: found, drawn beside each other, and rimmed so that they show on any ground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Region = np.ndarray[Any, Any]
"""(H, W) of bool."""
RIM = np.array((16, 16, 16), dtype=np.float32)


def enlarged(mask: Tensor, size: tuple[int, int]) -> Region:
    """A mask (h, w) in a picture of `size` (W, H), with smooth contours: within half a cell of the mask's own."""
    cells = (mask.detach().float().cpu() > 0).float()[None, None]
    big = F.interpolate(cells, (size[1], size[0]), mode="bilinear", align_corners=False)[0, 0]
    return np.asarray((big > 0.5).numpy(), dtype=bool)


def grown(region: Region, by: int) -> Region:
    """The region with a border of `by` pixels around it."""
    found = torch.from_numpy(region).float()[None, None]
    found = F.max_pool2d(found, (2 * by + 1, 1), 1, (by, 0))
    return np.asarray((F.max_pool2d(found, (1, 2 * by + 1), 1, (0, by))[0, 0] > 0).numpy(), dtype=bool)


def ring(region: Region, width: int) -> Region:
    """The outermost pixels of a region. The picture's edge closes it, so that it is told what is inside."""
    outside = grown(np.pad(~region, width, constant_values=True), width)
    return np.asarray(region & outside[width:-width, width:-width], dtype=bool)


def stripes(shape: tuple[int, int], length: float) -> np.ndarray[Any, Any]:
    """Numbers (H, W) of slanting stripes, which cut lines of nearly every direction into pieces of about `length`."""
    rows, columns = np.indices(shape, dtype=np.float32)
    return np.asarray(np.floor((columns + 0.7 * rows) / length), dtype=np.int64)


def draw_lines(
    canvas: np.ndarray[Any, Any], lines: Sequence[Region], colors: Sequence[tuple[int, int, int]], rim: int, piece: int
) -> None:
    """Draw lines into `canvas` (H, W, 3), in place, with a thin dark rim around them.

    Where several lines coincide they take turns in pieces of `piece` pixels, so that none hides another.
    """
    if not lines:
        return
    stack = np.stack(list(lines))
    anywhere: Region = np.asarray(stack.any(axis=0))
    canvas[grown(anywhere, rim) & ~anywhere] = RIM
    turn = stripes((canvas.shape[0], canvas.shape[1]), piece) % np.maximum(stack.sum(axis=0), 1)
    rank = stack.cumsum(axis=0) - 1
    for line, own, color in zip(stack, rank, colors, strict=True):
        canvas[line & (own == turn)] = color


def largest_part(mask: Tensor) -> Tensor:
    """The largest connected part of a mask (h, w), as bool; cells touch by sides and corners."""
    inside = mask.detach().float().cpu() > 0
    numbers = torch.arange(1, inside.numel() + 1, dtype=torch.float64).reshape(inside.shape) * inside
    while True:
        spread = F.max_pool2d(numbers[None, None], 3, 1, 1)[0, 0] * inside
        if torch.equal(spread, numbers):
            break
        numbers = spread
    sizes = torch.bincount(numbers.long().flatten())
    sizes[0] = 0
    return inside & (numbers == int(sizes.argmax()))


def bounds(mask: Tensor, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a mask (h, w) that is not empty, in a picture of `size` (W, H)."""
    across, down = size[0] / mask.shape[1], size[1] / mask.shape[0]
    ys, xs = (torch.nonzero(mask.any(dim=axis)).flatten() for axis in (1, 0))
    return (
        float(xs.min()) * across, float(ys.min()) * down, (float(xs.max()) + 1) * across, (float(ys.max()) + 1) * down,
    )  # fmt: skip
