"""Wrong looks: a look's pattern in other colours, and its marks without its pattern."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np

from benchmarks.judge.targets import Field
from research.world import COLOURS, LOOKS, TYPICAL, Look, Thing, random_thing, tile
from research.world.paint import surface

_FAR = 40.0  # least difference of a recoloured look, of 255, as a mean over its surface and the channels
_PLAIN = 25.0  # least difference of its own colours from their mean; with less it would be a plain thing
_BLACK = (25, 20, 30)


def pixels(thing: Thing) -> Field:
    """The thing on a transparent tile, (side, side, 4) floats of 0 to 255."""
    return np.asarray(tile(thing), np.float32)


def pixels_with(thing: Thing, look: Look) -> Field:
    """The thing with a look that is not in LOOKS."""
    LOOKS["unknown"] = look
    try:
        return pixels(replace(thing, look="unknown"))
    finally:
        del LOOKS["unknown"]


def faceless(look: Look) -> Look:
    """The look without its eyes and other marks. It still counts as that look: generators smudge small marks."""
    return replace(look, marks=lambda pen: None)


def palette(look: Look) -> tuple[Field, Field]:
    """The colours (N, 3) of a look's surface, and the part (N) of the surface that each covers."""
    axis = np.linspace(-0.9, 0.9, 61, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    colours, counts = np.unique(look.surface(u, v)[np.hypot(u, v) < 0.9], axis=0, return_counts=True)
    return colours, counts / counts.sum()


def in_colours(look: Look, old: Field, new: Field) -> Look:
    """The look with the colours `old` (N, 3) of its surface replaced by `new`."""

    def painted(u: Field, v: Field) -> Field:
        before = look.surface(u, v).astype(np.float32)
        after = before.copy()
        for one, other in zip(old, new, strict=True):
            after[(before == one).all(-1)] = other
        return after

    return replace(look, surface=painted)


def rotated(colours: Field, angle: float) -> Field:
    """Colours (N, 3) of 0 to 255, rotated around the grey axis."""
    c, s = math.cos(angle), math.sin(angle) / math.sqrt(3)
    turn = c * np.eye(3) + (1 - c) / 3 + s * np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return np.clip(colours @ turn.T, 0, 255)


def _other_colours(kind: str, old: Field, others: Field, rng: random.Random) -> Field:
    """Colours for `old`: of another look, of the class or any, some of them kept; or all rotated in hue."""
    way = rng.random()
    if way < 0.2:
        return rotated(old, rng.choice((-1, 1)) * rng.uniform(0.7, math.pi))
    if way < 0.75:
        choices = [*others.tolist(), _BLACK]
    elif way < 0.85:
        choices = [COLOURS[TYPICAL[kind]], (250, 250, 245), _BLACK]
    else:
        choices = list(COLOURS.values())
    fresh = [rng.choice(choices) if rng.random() < 0.7 else colour for colour in old.tolist()]
    return np.array(fresh, np.float32)


def recoloured(name: str, other: str, rng: random.Random) -> Look:
    """The pattern of the look `name` in clearly different colours, of `other` or any; most often with its marks."""
    look, (old, parts), (others, _) = LOOKS[name], palette(LOOKS[name]), palette(LOOKS[other])
    new = rotated(old, math.pi / 2)
    for _ in range(20):
        drawn = _other_colours(look.kind, old, others, rng)
        differs = float((np.abs(drawn - old).mean(1) * parts).sum())
        spread = float((np.abs(drawn - parts @ drawn).mean(1) * parts).sum())
        if differs >= _FAR and spread >= _PLAIN:
            new = drawn
            break
    changed = in_colours(look, old, new)
    marks = rng.random()
    return changed if marks < 0.6 else faceless(changed) if marks < 0.85 else replace(changed, marks=LOOKS[other].marks)


def only_marks(name: str, kind: str, rng: random.Random) -> Look:
    """The marks of a look on the class's own surface."""
    plain = random_thing(rng, kind)
    return Look(kind, lambda u, v: surface(COLOURS[plain.colour], plain.texture, u, v), LOOKS[name].marks)
