"""Silhouettes of the classes: polygons in unit coordinates, x to the right and y down, within [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

Polygon = list[tuple[float, float]]


def ellipse(cx: float, cy: float, rx: float, ry: float, start: float = 0, end: float = 360) -> Polygon:
    """Points on an ellipse from angle `start` to `end` in degrees, clockwise as seen."""
    steps = 40
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def _ball() -> list[Polygon]:
    return [ellipse(0, 0, 0.96, 0.96)]


def _star() -> list[Polygon]:
    points = []
    for i in range(10):
        radius, angle = (1.06, 0.5)[i % 2], math.radians(36 * i - 90)
        points.append((radius * math.cos(angle), radius * math.sin(angle) + 0.06))
    return [points]


def _heart() -> list[Polygon]:
    points = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3 * 0.98, -y / 16 - 0.1))
    return [points]


def _house() -> list[Polygon]:
    return [
        [(-0.75, -0.15), (0.75, -0.15), (0.75, 0.95), (-0.75, 0.95)],
        [(-0.98, -0.12), (0, -0.97), (0.98, -0.12)],
    ]


def _fish() -> list[Polygon]:
    return [
        [(0.35, 0), (0.97, -0.62), (0.86, 0), (0.97, 0.62)],
        ellipse(-0.22, 0, 0.76, 0.6),
    ]


def _mushroom() -> list[Polygon]:
    return [
        [(-0.3, 0), (0.3, 0), (0.4, 0.95), (-0.4, 0.95)],
        ellipse(0, 0.12, 0.98, 1.06, 180, 360),
    ]


_SHAPES: dict[str, Callable[[], list[Polygon]]] = {
    "ball": _ball,
    "star": _star,
    "heart": _heart,
    "house": _house,
    "fish": _fish,
    "mushroom": _mushroom,
}
SILHOUETTES: dict[str, list[Polygon]] = {kind: make() for kind, make in _SHAPES.items()}
