"""Rendered training scenes: the world's own things, and what a generator may draw instead of them.

Besides things with their own looks, there are things with another class's look, a look's pattern in other colours, its
marks on a plain thing, blends of two looks (mixed evenly, half and half, in patches), halves of two things grown
together, shapeless blobs, things cut in two, touching pairs of one class, and empty scenes. So the judge learns to
accept only whole things with their own look, in colour and pattern.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from benchmarks.judge import targets
from benchmarks.judge.targets import BACKGROUND_NAMES, DrawnThing, Field
from benchmarks.judge.things import CHANCES, KINDS, draw_thing, patches
from research.world import CLASSES, SIZE, Scene, Thing, render

_TILTED = {"ball", "star", "heart", "fish"}


@dataclass(frozen=True)
class Sample:
    """A picture (SIZE, SIZE, 3) uint8, its targets (CHANNELS, GRID, GRID), and its things as drawn."""

    picture: Field
    targets: Field
    things: tuple[DrawnThing, ...]
    background: str | None
    pencil: float


def random_layout(count: int, rng: random.Random) -> list[Thing]:
    """`count` things of any class at random positions; they may overlap a little or reach over the border."""
    low, high = {0: (0, 0), 1: (75, 165), 2: (72, 130), 3: (66, 104)}.get(count, (60, 84))
    gap, found = rng.choice((0.52, 0.52, 0.52, 0.36)), list[Thing]()
    if count > 1 and rng.random() < 0.3:
        found = _touching(low, high, rng)
    for _ in range(200):
        d = rng.uniform(low, high)
        margin = d / 2 if rng.random() < 0.85 else d / 5
        x, y = rng.uniform(margin, SIZE - margin), rng.uniform(margin, SIZE - margin)
        if len(found) < count and all(math.hypot(x - t.x, y - t.y) > gap * (d + t.diameter) for t in found):
            kind = "ball" if rng.random() < 0.15 else rng.choice(CLASSES)
            found.append(Thing(kind, x=x, y=y, diameter=d, tilt=_tilt(kind, rng)))
    return found


def _tilt(kind: str, rng: random.Random) -> float:
    return rng.uniform(-12, 12) if kind in _TILTED else 0.0


def _touching(low: float, high: float, rng: random.Random) -> list[Thing]:
    """Two things of one class and of similar size that touch or overlap a little."""
    kind = "ball" if rng.random() < 0.5 else rng.choice(CLASSES)
    d, e = (rng.uniform(low, high) for _ in range(2))
    e = d + 0.4 * (e - d)
    angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.38, 0.52) * (d + e)
    dx, dy = far * math.cos(angle), far * math.sin(angle)
    x = rng.uniform(d / 2 - min(dx, 0), SIZE - d / 2 - max(dx, 0))
    y = rng.uniform(d / 2 - min(dy, 0), SIZE - d / 2 - max(dy, 0))
    return [
        Thing(kind, x=x, y=y, diameter=d, tilt=_tilt(kind, rng)),
        Thing(kind, x=x + dx, y=y + dy, diameter=e, tilt=_tilt(kind, rng)),
    ]


def _offset(rng: random.Random) -> tuple[int, int]:
    return rng.randrange(SIZE), rng.randrange(SIZE)


def _ground(rng: random.Random) -> tuple[Field, Field, str | None]:
    """A background (SIZE, SIZE, 3), the share of each name in each cell, and its name if there is only one."""
    names = [rng.choice(BACKGROUND_NAMES) for _ in range(2)]
    pictures = [np.asarray(render(Scene((), name, _offset(rng))), np.float32) for name in names]
    mixed = rng.random() < 0.08
    where = patches(rng, SIZE) if mixed else np.ones((SIZE, SIZE), np.float32)
    shares = np.zeros((len(BACKGROUND_NAMES), targets.GRID, targets.GRID), np.float32)
    for name, part in zip(names, (where, 1 - where), strict=True):
        shares[BACKGROUND_NAMES.index(name)] += targets.shrink(part)
    ground = pictures[0] * where[..., None] + pictures[1] * (1 - where[..., None])
    return ground, shares, None if mixed and names[0] != names[1] else names[0]


def _paste(picture: Field, owner: Field, painted: Field, thing: DrawnThing, number: int) -> int:
    """Draw a thing and mark its pixels in `owner`; returns the number of pixels of the whole thing."""
    side = painted.shape[0]
    left, top = round(thing.x - side / 2), round(thing.y - side / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, SIZE), min(top + side, SIZE)
    piece = painted[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = piece[..., 3:] / 255
    picture[y0:y1, x0:x1] = picture[y0:y1, x0:x1] * (1 - alpha) + piece[..., :3] * alpha
    owner[y0:y1, x0:x1][alpha[..., 0] > 0.5] = number
    return int((painted[..., 3] > 127).sum())


def _penciled(picture: Field, owner: Field, rng: random.Random) -> tuple[Field, Field]:
    """The picture redrawn in pencil (nowhere, everywhere, on some things, or everywhere else), and where."""
    chance = rng.random()
    where: Field = np.zeros((SIZE, SIZE), np.float32)
    if chance < 0.22:
        where[:] = 1.0
    elif chance < 0.4 and owner.max() > 0:
        some = [n for n in range(1, int(owner.max()) + 1) if rng.random() < 0.5]
        where = np.isin(owner, some).astype(np.float32)
        where = where if rng.random() < 0.7 else 1 - where
    elif chance < 0.45:
        where = patches(rng, SIZE)
    if not where.any():
        return picture, where
    drawn = np.asarray(pencil(Image.fromarray(picture.astype(np.uint8))), np.float32)
    return picture * (1 - where[..., None]) + drawn * where[..., None], where


def pencil(picture: Image.Image) -> Image.Image:
    """The world's style "sketch" over any picture."""
    from research.world.render import _STYLES

    return _STYLES["sketch"](picture)


def hard_scene(rng: random.Random) -> Sample:
    """A random scene with right and wrong things."""
    count = rng.choices(range(6), (0.05, 0.2, 0.37, 0.24, 0.1, 0.04))[0]
    picture, shares, name = _ground(rng)
    owner: Field = np.zeros((SIZE, SIZE), np.int32)
    drawn, areas = list[DrawnThing](), list[int]()
    for number, thing in enumerate(random_layout(count, rng), start=1):
        painted, made = draw_thing(thing, rng.choices(KINDS, CHANCES)[0], rng)
        areas.append(max(_paste(picture, owner, painted, made, number), 1))
        drawn.append(made)
    drawing, where = _penciled(picture, owner, rng)
    things = tuple(
        _as_seen(thing, owner == n, area, where)
        for n, (thing, area) in enumerate(zip(drawn, areas, strict=True), start=1)
    )
    return _sample(drawing, owner, things, shares, name, where)


def _as_seen(thing: DrawnThing, own: Field, area: int, where: Field) -> DrawnThing:
    """The thing with the visible part of its `area`; no verdict if pencil removed the colours it depends on."""
    seen = replace(thing, visible=thing.visible * float(own.sum()) / area)
    grey = seen.by_colour and bool(own.any()) and float(where[own].mean()) > 0.3
    return replace(seen, verdict=None) if grey else seen


def _sample(
    picture: Field, owner: Field, things: tuple[DrawnThing, ...], shares: Field, name: str | None, where: Field
) -> Sample:
    made = targets.blank()
    targets.add_things(made, things)
    made[targets.BACKGROUND] = shares
    made[targets.BACKGROUND_WEIGHT] = targets.shrink((owner == 0).astype(np.float32)) ** 2
    made[targets.PENCIL] = targets.shrink(where)
    return Sample(np.clip(picture, 0, 255).astype(np.uint8), made, things, name, float(where.mean()))
