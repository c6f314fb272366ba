"""Outlines of regions in a picture: found, drawn beside each other, and rimmed so that they show on any ground."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Silhouette = np.ndarray[Any, Any]
"""(H, W) of bool."""
RIM = np.array((16, 16, 16), dtype=np.float32)


def enlarged(mask: Tensor, size: tuple[int, int]) -> Silhouette:
    """A mask (h, w) in a picture of `size` (W, H), with smooth contours: within half a cell of the mask's own."""
    cells = (mask.detach().float().cpu() > 0).float()[None, None]
    big = F.interpolate(cells, (size[1], size[0]), mode="bilinear", align_corners=False)[0, 0]
    return np.asarray((big > 0.5).numpy(), dtype=bool)


def grown(region: Silhouette, by: int) -> Silhouette:
    """The region with a border of `by` pixels around it."""
    return _stretched(_stretched(region, by).T, by).T


def _stretched(region: Silhouette, by: int) -> Silhouette:
    """The region and what lies `by` rows or fewer above and below it; a large picture costs little more than a small
    `by`, as stretches are doubled."""
    found, length, whole = np.pad(region, ((by, by), (0, 0))), 1, 2 * by + 1
    while length < whole:
        step = min(length, whole - length)
        found = found[:-step] | found[step:]
        length += step
    return found


def ring(region: Silhouette, width: int) -> Silhouette:
    """The outermost pixels of a region. The picture's edge closes it, so that it is told what is inside."""
    outside = grown(np.pad(~region, width, constant_values=True), width)
    return np.asarray(region & outside[width:-width, width:-width], dtype=bool)


def dashed(line: Silhouette, piece: int, start: int) -> Silhouette:
    """Pieces of a line of about `piece` pixels, with gaps as long; where `start` is odd the gaps are the pieces."""
    rows, columns = np.nonzero(line)
    kept = (_stripes(rows, columns, piece) + start) % 2 == 0
    result: Silhouette = np.zeros_like(line)
    result[rows[kept], columns[kept]] = True
    return result


def _stripes(rows: np.ndarray[Any, Any], columns: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
    """Numbers of slanting stripes, which cut lines of nearly every direction into pieces of about `length`."""
    return np.asarray((columns + 0.7 * rows) // length, dtype=np.int64)


def draw_lines(
    canvas: np.ndarray[Any, Any],
    lines: Sequence[Silhouette],
    colors: Sequence[tuple[int, int, int]],
    rim: int,
    piece: int,
) -> None:
    """Draw lines into `canvas` (H, W, 3), in place, with a thin dark rim around them.

    Where several lines coincide they take turns in pieces of `piece` pixels, so that none hides another.
    """
    if not lines:
        return
    anywhere: Silhouette = np.logical_or.reduce(list(lines))
    canvas[grown(anywhere, rim) & ~anywhere] = RIM
    rows, columns = np.nonzero(anywhere)
    claims = np.stack([line[rows, columns] for line in lines])
    turn = _stripes(rows, columns, piece) % claims.sum(axis=0)
    rank = claims.cumsum(axis=0) - 1
    for claim, own, color in zip(claims, rank, colors, strict=True):
        mine = claim & (own == turn)
        canvas[rows[mine], columns[mine]] = color


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
