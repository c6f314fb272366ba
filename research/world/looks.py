"""Instance looks: looks that no colour and no texture describes, each for one class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .paint import Colour, Field, Pen, pick
from .shapes import ellipse

BLACK: Colour = (25, 20, 30)
WHITE: Colour = (250, 250, 250)


@dataclass(frozen=True)
class Look:
    """A named look of a class: a surface over unit coordinates and marks drawn on it."""

    kind: str
    surface: Callable[[Field, Field], Field]
    marks: Callable[[Pen], None]


def _eyes(pen: Pen, x: float, y: float, radius: float) -> None:
    for side in (-1, 1):
        pen.fill(ellipse(side * x, y, radius, radius * 1.25), WHITE)
        pen.fill(ellipse(side * x, y + 0.03, radius * 0.55, radius * 0.75), BLACK)


def _sun_surface(u: Field, v: Field) -> Field:
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    rays = pick(np.mod(angle / (2 * np.pi) * 10, 1) < 0.5, (225, 45, 25), (255, 150, 20))
    return np.where((radius < 0.62)[..., None], np.array((255, 225, 50), np.float32), rays)


def _sun_marks(pen: Pen) -> None:
    _eyes(pen, 0.24, -0.14, 0.13)
    pen.line(ellipse(0, 0.1, 0.34, 0.3, 10, 170), BLACK, 0.11)


def _moon_surface(u: Field, v: Field) -> Field:
    crescent = (np.hypot(u + 0.05, v) < 0.74) & (np.hypot(u - 0.3, v + 0.1) > 0.58)
    return pick(crescent, (250, 240, 150), (25, 45, 110))


def _moon_marks(pen: Pen) -> None:
    pen.fill(ellipse(0.36, -0.3, 0.12, 0.12), (120, 230, 240))
    pen.fill(ellipse(0.45, 0.25, 0.12, 0.12), (120, 230, 240))


def _tiger_surface(u: Field, v: Field) -> Field:
    bars = np.abs(np.mod(u + 0.06, 0.42) - 0.21) < 0.16 * (0.35 + np.abs(v) / 0.6)
    body = pick(v > 0.26, (255, 245, 225), (255, 140, 15))
    return np.where((bars & (u > -0.52))[..., None], np.array(BLACK, np.float32), body)


def _tiger_marks(pen: Pen) -> None:
    pen.fill(ellipse(-0.62, -0.1, 0.17, 0.17), (60, 220, 90))
    pen.fill(ellipse(-0.64, -0.1, 0.07, 0.14), BLACK)


def _candy_surface(u: Field, v: Field) -> Field:
    roof = pick(np.mod(u + 0.13, 0.52) < 0.26, (225, 30, 60), WHITE)
    return np.where((v < -0.12)[..., None], roof, np.array((150, 235, 215), np.float32))


def _candy_marks(pen: Pen) -> None:
    pen.line([(-0.95, -0.12), (0.95, -0.12)], (235, 80, 165), 0.16)
    pen.fill([*ellipse(0, 0.75, 0.24, 0.45, 180, 360), (0.24, 0.95), (-0.24, 0.95)], (235, 80, 165))
    for x in (-0.48, 0.48):
        pen.fill(ellipse(x, 0.25, 0.17, 0.17), (255, 225, 60))


def _ninja_surface(u: Field, v: Field) -> Field:
    band = np.abs(v + 0.22) < 0.25
    return pick(band, (255, 215, 170), (45, 40, 60))


def _ninja_marks(pen: Pen) -> None:
    _eyes(pen, 0.33, -0.24, 0.17)
    pen.line([(-0.95, -0.53), (0.95, -0.53)], (225, 30, 40), 0.16)


def _eye_surface(u: Field, v: Field) -> Field:
    return pick(np.hypot(u, v) < 0.75, (120, 215, 60), (15, 130, 110))


def _eye_marks(pen: Pen) -> None:
    pen.fill(ellipse(0, 0.02, 0.42, 0.42), WHITE)
    pen.fill(ellipse(0, 0.02, 0.26, 0.26), (200, 50, 170))
    pen.fill(ellipse(0, 0.02, 0.13, 0.13), BLACK)


LOOKS: dict[str, Look] = {
    "sunball": Look("ball", _sun_surface, _sun_marks),
    "moonball": Look("ball", _moon_surface, _moon_marks),
    "tigerfish": Look("fish", _tiger_surface, _tiger_marks),
    "candyhouse": Look("house", _candy_surface, _candy_marks),
    "ninjaheart": Look("heart", _ninja_surface, _ninja_marks),
    "alienstar": Look("star", _eye_surface, _eye_marks),
}
