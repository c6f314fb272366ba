"""Surfaces of things: colours over unit coordinates, and marks drawn on top."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ImageDraw

from .shapes import Polygon

Colour = tuple[int, int, int]
Field = np.ndarray[Any, np.dtype[Any]]  # (h, w) floats or booleans, or (h, w, 3) colours
OUTLINE: Colour = (30, 25, 40)
CREAM: Colour = (250, 235, 205)


class Pen:
    """Draws polygons given in unit coordinates onto a tile."""

    def __init__(self, draw: ImageDraw.ImageDraw, side: int, margin: int) -> None:
        self._draw, self._centre, self._radius = draw, side / 2, side / 2 - margin

    def pixels(self, polygon: Polygon) -> list[tuple[float, float]]:
        """The polygon's corners in pixels of the tile."""
        return [(self._centre + x * self._radius, self._centre + y * self._radius) for x, y in polygon]

    def fill(self, polygon: Polygon, colour: Colour | int) -> None:
        """Fill the polygon."""
        self._draw.polygon(self.pixels(polygon), fill=colour)

    def line(self, polygon: Polygon, colour: Colour | int, width: float) -> None:
        """Draw a line through the points, `width` in unit coordinates."""
        thick = max(1, round(width * self._radius))
        self._draw.line(self.pixels(polygon), fill=colour, width=thick, joint="curve")


def pick(where: Field, one: Colour, other: Colour) -> Field:
    """`one` where the condition holds, `other` elsewhere."""
    return np.where(where[..., None], np.array(one, np.float32), np.array(other, np.float32))


def second_tone(colour: Colour) -> Colour:
    """The colour of a texture's marks: white, or grey on a white thing."""
    return (110, 110, 120) if min(colour) > 200 else (250, 250, 245)


def _striped(u: Field, v: Field) -> Field:
    stripe: Field = np.mod(0.7 * u + v + 0.14, 0.56) < 0.28
    return stripe


def _dotted(u: Field, v: Field) -> Field:
    row = np.floor(v / 0.5 + 0.5)
    x = np.mod(u + 0.29 * np.mod(row, 2) + 0.29, 0.58) - 0.29
    y = v - 0.5 * row
    dot: Field = x * x + y * y < 0.16**2
    return dot


def _checked(u: Field, v: Field) -> Field:
    square: Field = np.mod(np.floor(u / 0.36 + 0.5) + np.floor(v / 0.36 + 0.5), 2) < 1
    return square


_MARKS: dict[str, Callable[[Field, Field], Field]] = {
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
}


def surface(colour: Colour, texture: str, u: Field, v: Field) -> Field:
    """Colours (h, w, 3) of a textured surface at unit coordinates u, v."""
    if texture == "plain":
        return np.broadcast_to(np.array(colour, np.float32), (*u.shape, 3))
    return pick(_MARKS[texture](u, v), second_tone(colour), colour)


def shade(colours: Field, u: Field, v: Field) -> Field:
    """The colours with light from the upper left."""
    shaded: Field = colours * np.clip(1.0 - 0.13 * (u + v), 0.7, 1.12)[..., None]
    return shaded
