"""Scenes of the world: things of six classes with their looks, on a background."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

SIZE = 256  # pixels, both ways

CLASSES = ("ball", "star", "heart", "house", "fish", "mushroom")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (60, 190, 70),
    "blue": (50, 90, 225),
    "yellow": (250, 220, 60),
    "purple": (145, 60, 190),
    "orange": (250, 140, 30),
    "pink": (250, 150, 195),
    "white": (245, 245, 245),
}
# The colour of a thing without attributes.
TYPICAL = {
    "ball": "red",
    "star": "yellow",
    "heart": "pink",
    "house": "white",
    "fish": "orange",
    "mushroom": "purple",
}
TEXTURES = ("plain", "striped", "dotted", "checked")
BACKGROUNDS = ("grass", "sand", "water", "snow", "night")

# Diameters by the number of things: large against a map grid of 8 x 8.
_DIAMETERS = {1: (115, 165), 2: (100, 126), 3: (84, 98)}
_TILTED = {"ball", "star", "heart", "fish"}


@dataclass(frozen=True)
class Thing:
    """One thing: its class, where it is, and how it looks.

    `look` names an instance look of `looks.LOOKS`; colour and texture then have no effect.
    `x` and `y` are the centre and `diameter` the size, in pixels; `tilt` is in degrees.
    """

    kind: str
    colour: str = "red"
    texture: str = "plain"
    x: float = SIZE / 2
    y: float = SIZE / 2
    diameter: float = 120.0
    tilt: float = 0.0
    look: str | None = None

    @property
    def is_typical(self) -> bool:
        """Whether the thing looks as its class does without attributes."""
        return self.look is None and (self.colour, self.texture) == (TYPICAL[self.kind], "plain")


@dataclass(frozen=True)
class Scene:
    """Things on a background. `offset` moves the background's pattern; `style` redraws the whole picture."""

    things: tuple[Thing, ...]
    background: str = "grass"
    offset: tuple[int, int] = (0, 0)
    style: str | None = None


def _circles(count: int, rng: random.Random) -> list[tuple[float, float, float]]:
    """Centres and diameters of `count` things inside the picture that hardly overlap."""
    low, high = _DIAMETERS[count]
    while True:
        circles: list[tuple[float, float, float]] = []
        for _ in range(60):
            d = rng.uniform(low, high)
            margin = d / 2 + 4
            x, y = rng.uniform(margin, SIZE - margin), rng.uniform(margin, SIZE - margin)
            if all(math.hypot(x - u, y - v) > 0.52 * (d + e) for u, v, e in circles):
                circles.append((x, y, d))
            if len(circles) == count:
                return circles


def random_thing(rng: random.Random, kind: str | None = None, typical: float = 0.5) -> Thing:
    """A thing of `kind` (any class if None): typical at chance `typical`, else in a random colour and texture."""
    kind = kind or rng.choice(CLASSES)
    if rng.random() < typical:
        return Thing(kind, TYPICAL[kind])
    texture = "plain" if rng.random() < 0.6 else rng.choice(TEXTURES[1:])
    return Thing(kind, rng.choice(list(COLOURS)), texture)


def arrange(things: tuple[Thing, ...], rng: random.Random) -> tuple[Thing, ...]:
    """The same things at random positions, in random sizes and slightly tilted."""
    circles = _circles(len(things), rng)
    return tuple(
        replace(thing, x=x, y=y, diameter=d, tilt=rng.uniform(-10, 10) if thing.kind in _TILTED else 0.0)
        for thing, (x, y, d) in zip(things, circles, strict=True)
    )


def sample_scene(
    rng: random.Random,
    things: tuple[Thing, ...] | None = None,
    background: str | None = None,
    style: str | None = None,
    typical: float = 0.5,
) -> Scene:
    """A random scene. Given things (without positions), background and style are kept."""
    if things is None:
        count = rng.choices((1, 2, 3), (0.3, 0.52, 0.18))[0]
        things = tuple(random_thing(rng, typical=typical) for _ in range(count))
    offset = (rng.randrange(SIZE), rng.randrange(SIZE))
    return Scene(arrange(things, rng), background or rng.choice(BACKGROUNDS), offset, style)
