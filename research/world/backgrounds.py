"""Backgrounds: tiles that repeat seamlessly, drawn once with fixed seeds and cut out at an offset."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from .paint import Field
from .scene import SIZE

Colour = tuple[int, int, int]
Mark = Callable[[ImageDraw.ImageDraw, float, float, random.Random], None]


def _scatter(ground: Colour, count: int, spacing: float, mark: Mark) -> Image.Image:
    """Marks at random positions at least `spacing` apart, wrapped around the edges, drawn at double size."""
    rng = random.Random(7)
    picture = Image.new("RGB", (2 * SIZE, 2 * SIZE), ground)
    draw = ImageDraw.Draw(picture)
    positions: list[tuple[float, float]] = []
    for _ in range(count * 40):
        x, y = rng.uniform(0, SIZE), rng.uniform(0, SIZE)
        gaps = [(abs(x - u), abs(y - v)) for u, v in positions]
        if all(min(a, SIZE - a) ** 2 + min(b, SIZE - b) ** 2 > spacing**2 for a, b in gaps):
            positions.append((x, y))
        if len(positions) == count:
            break
    for x, y in positions:
        seed = rng.random()
        for dx in (-SIZE, 0, SIZE):
            for dy in (-SIZE, 0, SIZE):
                mark(draw, 2 * (x + dx), 2 * (y + dy), random.Random(seed))
    return picture.reduce(2)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
    draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)


def _grass() -> Image.Image:
    def blade(draw: ImageDraw.ImageDraw, x: float, y: float, rng: random.Random) -> None:
        lean = rng.uniform(-10, 10)
        draw.line((x, y, x + lean, y - 36), fill=(55, 125, 55), width=10)

    return _scatter((92, 152, 72), 70, 24, blade)


def _sand() -> Image.Image:
    def pebble(draw: ImageDraw.ImageDraw, x: float, y: float, rng: random.Random) -> None:
        r = rng.uniform(7, 12)
        _disc(draw, x, y, r, r, (196, 160, 100))

    return _scatter((226, 198, 142), 60, 24, pebble)


def _waves(ground: Colour, crest: Colour) -> Image.Image:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    height = np.mod(y + 5 * np.sin(x * 2 * np.pi / 64), 32)
    share = np.clip(3.5 - np.abs(height - 16), 0, 1)[..., None]
    colours = np.array(ground) * (1 - share) + np.array(crest) * share
    return Image.fromarray(colours.astype(np.uint8))


def _snow() -> Image.Image:
    def flake(draw: ImageDraw.ImageDraw, x: float, y: float, rng: random.Random) -> None:
        r = rng.uniform(9, 14)
        _disc(draw, x, y, r, r, (255, 255, 255))

    return _scatter((214, 224, 236), 45, 30, flake)


def _night() -> Image.Image:
    def light(draw: ImageDraw.ImageDraw, x: float, y: float, rng: random.Random) -> None:
        r = rng.uniform(4, 8)
        _disc(draw, x, y, r, r, (240, 235, 180))

    return _scatter((34, 34, 66), 26, 40, light)


def _lava() -> Image.Image:
    """Dark plates with glowing cracks where the nearest and the second nearest of wrapped seeds are equally far."""
    rng = random.Random(3)
    seeds = [((i + rng.uniform(0.2, 0.8)) * 64, (j + rng.uniform(0.2, 0.8)) * 64) for i in range(4) for j in range(4)]
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    far = []
    for u, v in seeds:
        a, b = np.abs(x - u), np.abs(y - v)
        far.append(np.hypot(np.minimum(a, SIZE - a), np.minimum(b, SIZE - b)))
    nearest = np.sort(np.stack(far), axis=0)
    gap = (nearest[1] - nearest[0])[..., None]
    glow, core = np.clip(1.4 - gap / 12, 0, 1), np.clip(1.6 - gap / 5, 0, 1)
    colours = np.array((60, 18, 16)) * (1 - glow) + np.array((235, 70, 10)) * glow
    colours = colours * (1 - core) + np.array((255, 205, 60)) * core
    return Image.fromarray(colours.astype(np.uint8))


_PAINTERS: dict[str, Callable[[], Image.Image]] = {
    "grass": _grass,
    "sand": _sand,
    "water": lambda: _waves((62, 128, 186), (150, 205, 232)),
    "snow": _snow,
    "night": _night,
    "lava": _lava,
}


@cache
def _tile(name: str) -> Field:
    return np.asarray(_PAINTERS[name]())


def background(name: str, offset: tuple[int, int]) -> Image.Image:
    """The background `name`, moved by `offset` pixels. Besides the world's own there is "lava"."""
    return Image.fromarray(np.roll(_tile(name), offset, (1, 0)))
