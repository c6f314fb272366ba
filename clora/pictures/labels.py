"""Text in pictures, and labels that hide neither the subjects nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Bounds = tuple[float, float, float, float]
"""Left, top, right, bottom."""
_AWAY, _ASIDE, _HIDING, _BELOW = 1.5, 0.25, 0.8, 0.05
"""What a label's place costs: each pixel away from its region and beside its middle; as parts of the picture's longer
side, hiding a subject with the whole label, and not standing above its region."""

_DARK = (16, 16, 16)


class Plate:
    """A label's text on its coloured plate, not yet anywhere; the second line and those after it are smaller."""

    def __init__(self, text: str, size: int, limit: int, color: tuple[int, int, int], dark: bool = False) -> None:
        """`size` is the height of the letters, `limit` how wide the plate may be; longer lines are cut. `dark` turns
        colours round, for what is not as it should be.
        """
        pad = max(2, size // 4)
        lines = [
            ink(line, size if number == 0 else round(size * 0.85), limit - 2 * pad)
            for number, line in enumerate(text.split("\n"))
        ]
        self.width = max(line.width for line in lines) + 2 * pad
        self.height = sum(line.height for line in lines) + pad * (len(lines) + 1)
        ground, letters, edge = (_DARK, color, color) if dark else (color, (0, 0, 0), _DARK)
        self.image = Image.new("RGB", (self.width, self.height), ground)
        draw, y = ImageDraw.Draw(self.image), pad
        draw.rectangle((0, 0, self.width - 1, self.height - 1), outline=edge, width=max(1, pad // 3) if dark else 1)
        for line in lines:
            draw.bitmap((pad, y), line, fill=letters)
            y += line.height + pad


def arrange(
    plates: Sequence[Plate], regions: Sequence[Bounds], subjects: np.ndarray[Any, Any]
) -> list[tuple[int, int]]:
    """The left top corner of each plate: by its region, above it if there is room, on as little of the `subjects`
    (H, W) as can be, and not on another plate unless the picture is full of them."""
    taken: list[Bounds] = []
    corners = []
    hidden = np.pad(subjects.astype(np.int64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    for plate, region in zip(plates, regions, strict=True):
        x, y = _best(plate, region, hidden, taken)
        taken.append((x, y, x + plate.width, y + plate.height))
        corners.append((x, y))
    return corners


def _best(plate: Plate, region: Bounds, hidden: np.ndarray[Any, Any], taken: Sequence[Bounds]) -> tuple[int, int]:
    """The cheapest corner; `hidden` (H + 1, W + 1) sums the subjects' pixels from the left top corner."""
    height, width = hidden.shape[0] - 1, hidden.shape[1] - 1
    side, gap = max(height, width), max(2, max(height, width) // 128)
    xs = np.arange(0, max(1, width - plate.width + 1), max(1, side // 256))
    ys = np.arange(0, max(1, height - plate.height + 1), max(1, side // 256))[:, None]
    right, bottom = np.minimum(xs + plate.width, width), np.minimum(ys + plate.height, height)
    away = np.hypot(_between(xs, right, region[0], region[2]), _between(ys, bottom, region[1] - gap, region[3] + gap))
    aside = np.abs((xs + right) / 2 - (region[0] + region[2]) / 2)
    on = (hidden[bottom, right] - hidden[ys, right] - hidden[bottom, xs] + hidden[ys, xs]) / (
        plate.width * plate.height
    )
    cost = _AWAY * away + _ASIDE * aside + side * (_HIDING * on + _BELOW * (bottom > region[1]))
    for left, top, end, foot in taken:
        across = np.minimum(right + gap, end) - np.maximum(xs - gap, left)
        down = np.minimum(bottom + gap, foot) - np.maximum(ys - gap, top)
        cost = cost + 100 * side * (across > 0) * (down > 0)
    row, column = np.unravel_index(int(cost.argmin()), cost.shape)
    return int(xs[column]), int(ys[row, 0])


def _between(start: np.ndarray[Any, Any], end: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    """How far the stretches from `start` to `end` lie off the one from `low` to `high`; 0 where they meet."""
    apart: np.ndarray[Any, Any] = np.maximum(np.maximum(low - end, start - high), 0.0)
    return apart


def ink(text: str, size: int, limit: int = 0) -> Image.Image:
    """The text's ink as a greyscale picture, about `size` pixels high; cut to `limit` pixels of width (0: not)."""
    drawn = _drawn(text, size)
    kept = text
    while limit and drawn.width > limit and len(kept) > 1:
        kept = kept[: max(1, min(len(kept) - 1, len(kept) * limit // drawn.width))]
        drawn = _drawn(f"{kept.rstrip()}..", size)
    return drawn


def _drawn(text: str, size: int) -> Image.Image:
    try:
        font, scale = ImageFont.load_default(size), 1.0
    except TypeError:  # Pillow before 10.1 has one small Latin font, which is scaled here
        font, scale = ImageFont.load_default(), size / 11
        text = text.encode("latin-1", "replace").decode("latin-1")
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    drawn = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(drawn).text((-left, -top), text, font=font, fill=255)
    return drawn if scale == 1.0 else drawn.resize((round(drawn.width * scale), round(drawn.height * scale)))
