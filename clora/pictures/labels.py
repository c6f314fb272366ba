"""Text as images, and labels placed so that they cover as little as possible of the subjects and of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .fonts import Font, font_for

Bounds = tuple[float, float, float, float]
"""Left, top, right, bottom."""
_DISTANCE, _OFF_CENTRE, _COVERING, _NOT_ABOVE = 1.5, 0.25, 0.8, 0.05
"""Costs of a label's position: per pixel of distance from its region and from the region's centre line; and relative to
the picture's longer side, for covering subjects with the whole label, and for not being above its region."""

_DARK = (16, 16, 16)


class Label:
    """An image of a label: text on a coloured background; lines after the first are smaller."""

    def __init__(self, text: str, size: int, limit: int, color: tuple[int, int, int], dark: bool = False) -> None:
        """`size` is the height of the text, `limit` the maximum width of the label; longer lines are cut. `dark` swaps
        text and background colour, for subjects that were not found.
        """
        pad = max(2, size // 4)
        lines = [
            text_image(line, size if number == 0 else round(size * 0.85), limit - 2 * pad)
            for number, line in enumerate(text.split("\n"))
        ]
        self.width = max(line.width for line in lines) + 2 * pad
        self.height = sum(line.height for line in lines) + pad * (len(lines) + 1)
        background, text_color, edge = (_DARK, color, color) if dark else (color, (0, 0, 0), _DARK)
        self.image = Image.new("RGB", (self.width, self.height), background)
        draw, y = ImageDraw.Draw(self.image), pad
        draw.rectangle((0, 0, self.width - 1, self.height - 1), outline=edge, width=max(1, pad // 3) if dark else 1)
        for line in lines:
            draw.bitmap((pad, y), line, fill=text_color)
            y += line.height + pad


def arrange(
    labels: Sequence[Label], regions: Sequence[Bounds], subjects: np.ndarray[Any, Any]
) -> list[tuple[int, int]]:
    """The top left corner of each label: near its region, preferably above it, covering as little as possible of the
    `subjects` (H, W) and no other label unless the picture is full of them.
    """
    taken: list[Bounds] = []
    corners = []
    covered = np.pad(subjects.astype(np.int64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    for label, region in zip(labels, regions, strict=True):
        x, y = _best(label, region, covered, taken)
        taken.append((x, y, x + label.width, y + label.height))
        corners.append((x, y))
    return corners


def _best(label: Label, region: Bounds, covered: np.ndarray[Any, Any], taken: Sequence[Bounds]) -> tuple[int, int]:
    """The corner of the lowest cost; `covered` (H + 1, W + 1) is the summed-area table of the subjects' pixels."""
    height, width = covered.shape[0] - 1, covered.shape[1] - 1
    side, gap = max(height, width), max(2, max(height, width) // 128)
    xs = np.arange(0, max(1, width - label.width + 1), max(1, side // 256))
    ys = np.arange(0, max(1, height - label.height + 1), max(1, side // 256))[:, None]
    right, bottom = np.minimum(xs + label.width, width), np.minimum(ys + label.height, height)
    away = np.hypot(_between(xs, right, region[0], region[2]), _between(ys, bottom, region[1] - gap, region[3] + gap))
    off_centre = np.abs((xs + right) / 2 - (region[0] + region[2]) / 2)
    on = (covered[bottom, right] - covered[ys, right] - covered[bottom, xs] + covered[ys, xs]) / (
        label.width * label.height
    )
    cost = _DISTANCE * away + _OFF_CENTRE * off_centre + side * (_COVERING * on + _NOT_ABOVE * (bottom > region[1]))
    for left, top, end, foot in taken:
        across = np.minimum(right + gap, end) - np.maximum(xs - gap, left)
        down = np.minimum(bottom + gap, foot) - np.maximum(ys - gap, top)
        cost = cost + 100 * side * (across > 0) * (down > 0)
    row, column = np.unravel_index(int(cost.argmin()), cost.shape)
    return int(xs[column]), int(ys[row, 0])


def _between(start: np.ndarray[Any, Any], end: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    """The gap between the intervals `start` to `end` and `low` to `high`; 0 where they overlap."""
    apart: np.ndarray[Any, Any] = np.maximum(np.maximum(low - end, start - high), 0.0)
    return apart


def text_image(text: str, size: int, limit: int = 0) -> Image.Image:
    """The text as a greyscale image, about `size` pixels high, cut to a width of `limit` pixels (0: not cut)."""
    drawn = _drawn(text, size)
    kept = text
    while limit and drawn.width > limit and len(kept) > 1:
        kept = kept[: max(1, min(len(kept) - 1, len(kept) * limit // drawn.width))]
        drawn = _drawn(f"{kept.rstrip()}..", size)
    return drawn


def _drawn(text: str, size: int) -> Image.Image:
    font: Font | None = font_for(text, size)
    scale = 1.0
    if font is None:  # Pillow before 10.1 has only one small Latin font, which is scaled here
        font, scale = ImageFont.load_default(), size / 11
        text = text.encode("latin-1", "replace").decode("latin-1")
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    drawn = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(drawn).text((-left, -top), text, font=font, fill=255)
    return drawn if scale == 1.0 else drawn.resize((round(drawn.width * scale), round(drawn.height * scale)))
