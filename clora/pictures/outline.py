"""Outlines of masks in a picture: computed, drawn beside each other, with a dark rim for any background."""

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
    """A mask (h, w) at the picture's `size` (W, H), with smooth contours within half a cell of the mask's own."""
    cells = (mask.detach().float().cpu() > 0).float()[None, None]
    big = F.interpolate(cells, (size[1], size[0]), mode="bilinear", align_corners=False)[0, 0]
    return np.asarray((big > 0.5).numpy(), dtype=bool)


def grown(region: Silhouette, by: int) -> Silhouette:
    """The region dilated by `by` pixels."""
    return _stretched(_stretched(region, by).T, by).T


def _stretched(region: Silhouette, by: int) -> Silhouette:
    """The region dilated by `by` rows; the distance is doubled in each pass, so that a large `by` costs little more."""
    dilated, length, whole = np.pad(region, ((by, by), (0, 0))), 1, 2 * by + 1
    while length < whole:
        step = min(length, whole - length)
        dilated = dilated[:-step] | dilated[step:]
        length += step
    return dilated


def ring(region: Silhouette, width: int) -> Silhouette:
    """The outermost pixels of a region; the picture's edge counts as its boundary, so that the outline is closed."""
    outside = grown(np.pad(~region, width, constant_values=True), width)
    return np.asarray(region & outside[width:-width, width:-width], dtype=bool)


def dashed(line: Silhouette, piece: int, start: int) -> Silhouette:
    """Dashes of a line of about `piece` pixels, with gaps as long; an odd `start` swaps dashes and gaps."""
    rows, columns = np.nonzero(line)
    dashes = (_stripes(rows, columns, piece) + start) % 2 == 0
    result: Silhouette = np.zeros_like(line)
    result[rows[dashes], columns[dashes]] = True
    return result


def _stripes(rows: np.ndarray[Any, Any], columns: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
    """Numbers of slanted stripes, which cut lines of nearly every direction into pieces of about `length`."""
    return np.asarray((columns + 0.7 * rows) // length, dtype=np.int64)


def draw_lines(
    canvas: np.ndarray[Any, Any],
    lines: Sequence[Silhouette],
    colors: Sequence[tuple[int, int, int]],
    rim: int,
    piece: int,
) -> None:
    """Draw lines into `canvas` (H, W, 3), in place, with a thin dark rim around them.

    Where lines coincide they alternate in pieces of `piece` pixels, so that none covers another.
    """
    if not lines:
        return
    anywhere: Silhouette = np.logical_or.reduce(list(lines))
    canvas[grown(anywhere, rim) & ~anywhere] = RIM
    rows, columns = np.nonzero(anywhere)
    claims = np.stack([line[rows, columns] for line in lines])
    turn = _stripes(rows, columns, piece) % claims.sum(axis=0)
    rank = claims.cumsum(axis=0) - 1
    for claim, order, color in zip(claims, rank, colors, strict=True):
        mine = claim & (order == turn)
        canvas[rows[mine], columns[mine]] = color


def largest_part(mask: Tensor) -> Tensor:
    """The largest connected part of a mask (h, w), as bool; cells are connected by sides and corners."""
    inside, numbers, sizes = _parts(mask)
    return inside & (numbers == int(sizes.argmax()))


def large_parts(mask: Tensor, share: float) -> Tensor:
    """The connected parts of a mask (h, w) that have at least this share of the largest one's cells, as bool."""
    inside, numbers, sizes = _parts(mask)
    return inside & (sizes >= share * sizes.max())[numbers]


def _parts(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where a mask (h, w) is, the number of each cell's part, and the cells of each part by number (0 is outside)."""
    inside = mask.detach().float().cpu() > 0
    numbers = torch.arange(1, inside.numel() + 1, dtype=torch.float64).reshape(inside.shape) * inside
    while True:
        spread = F.max_pool2d(numbers[None, None], 3, 1, 1)[0, 0] * inside
        if torch.equal(spread, numbers):
            break
        numbers = spread
    whole = numbers.long()
    sizes = torch.bincount(whole.flatten())
    sizes[0] = 0
    return inside, whole, sizes


def bounds(mask: Tensor, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a mask (h, w) that is not empty, in a picture of `size` (W, H)."""
    across, down = size[0] / mask.shape[1], size[1] / mask.shape[0]
    ys, xs = (torch.nonzero(mask.any(dim=axis)).flatten() for axis in (1, 0))
    return (
        float(xs.min()) * across, float(ys.min()) * down, (float(xs.max()) + 1) * across, (float(ys.max()) + 1) * down,
    )  # fmt: skip
