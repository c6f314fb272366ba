"""Things for training scenes: with their own look, another, a wrong one, two blended, or no thing at all."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.judge.targets import WRONG, DrawnThing, Field
from benchmarks.judge.wrong import faceless, only_marks, pixels, pixels_with, recoloured
from research.world import CLASSES, LOOKS, Thing, random_thing

KINDS = ("base", "own", "foreign", "altered", "blend", "hybrid", "blob", "cut")
CHANCES = (0.18, 0.34, 0.06, 0.15, 0.17, 0.05, 0.03, 0.02)
# A blend counts as its larger look from the first share on, and as wrong up to the second. Generators draw faded looks,
# so a look mixed with a plain thing is wrong only up to the third.
_WHOLE, _MIXED, _FADED = 0.82, 0.7, 0.5


def patches(rng: random.Random, side: int, off: float = 0.25) -> Field:
    """A field (side, side) in [0, 1]: a straight border at most `off` from the middle, or soft patches."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * math.pi)
        height = np.cos(angle) * x + np.sin(angle) * y + rng.uniform(-off, off)
        return np.asarray(np.clip(height * rng.uniform(8, 60) + 0.5, 0, 1))
    coarse = np.random.default_rng(rng.getrandbits(32)).random((5, 5)).astype(np.float32)
    soft = Image.fromarray((255 * coarse).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(np.clip((np.asarray(soft, np.float32) / 255 - 0.5) * 6 + 0.5, 0, 1))


def _look_of(thing: Thing) -> str:
    return thing.look or "none"


def _looks_of(kind: str) -> list[str]:
    return [name for name, look in LOOKS.items() if look.kind == kind]


def _looked(kind: str, rng: random.Random, foreign: bool = False) -> Thing:
    """A thing of the class with a look made for it, or for another class."""
    names = [name for name in LOOKS if (name in _looks_of(kind)) != foreign]
    return Thing(kind, look=rng.choice(names)) if names else random_thing(rng, kind)


def _like(thing: Thing, other: Thing) -> Thing:
    """`thing` at the position and in the size of `other`."""
    return replace(thing, x=other.x, y=other.y, diameter=other.diameter, tilt=other.tilt)


def _blend(thing: Thing, rng: random.Random) -> tuple[Field, dict[str, float], bool]:
    """Two looks in one thing, each look's share of the surface, and whether they are mixed evenly."""
    picks = [_looked(thing.kind, rng), _looked(thing.kind, rng, foreign=True), random_thing(rng, thing.kind)]
    if thing.kind == "ball" and rng.random() < 0.5:
        picks = [Thing("ball", look="sunball"), Thing("ball", look="moonball")]
    one, two = (_like(pick, thing) for pick in rng.sample(picks, 2))
    first, second = pixels(one), pixels(two)
    side, even = first.shape[0], rng.random() < 0.5
    weight = np.full((side, side), rng.uniform(0.04, 0.96), np.float32) if even else patches(rng, side, 0.18)
    mixed = first * weight[..., None] + second * (1 - weight[..., None])
    alpha = first[..., 3]
    share = float((weight * alpha).sum() / alpha.sum())
    shares = {_look_of(one): share}
    shares[_look_of(two)] = shares.get(_look_of(two), 0.0) + 1 - share
    mixed[..., 3] = alpha
    return mixed, shares, even


def _altered(thing: Thing, rng: random.Random) -> tuple[Field, dict[str, float]]:
    """A look's pattern in other colours, or its marks alone; most often a look of the class itself."""
    own, foreign = _looks_of(thing.kind), list(LOOKS)
    name = rng.choice(own if own and rng.random() < 0.85 else foreign)
    other = rng.choice([look for look in LOOKS if look != name])
    if thing.kind == "ball" and rng.random() < 0.5:
        name, other = rng.sample(("sunball", "moonball"), 2)
    if rng.random() < 0.12:
        return pixels_with(thing, only_marks(name, thing.kind, rng)), {"none": 0.8, name: 0.2}
    return pixels_with(thing, recoloured(name, other, rng)), {name: 0.5, other: 0.5}


def _hybrid(thing: Thing, rng: random.Random) -> Field:
    """Halves of two things of different classes, which make no thing."""
    other = rng.choice([kind for kind in CLASSES if kind != thing.kind])
    first = pixels(_like(_looked(thing.kind, rng), thing))
    second = pixels(_like(_looked(other, rng), thing))
    y, x = np.mgrid[0 : first.shape[0], 0 : first.shape[1]] / first.shape[0] - 0.5
    angle = rng.uniform(0, 2 * math.pi)
    return np.where((np.cos(angle) * x + np.sin(angle) * y > rng.uniform(-0.1, 0.1))[..., None], first, second)


def _blob(thing: Thing, rng: random.Random) -> Field:
    """A lump in a thing's colours."""
    painted = pixels(_like(_looked(thing.kind, rng), thing))
    side = painted.shape[0]
    waves = [(k, rng.uniform(0.12, 0.3) / (k - 1), rng.uniform(0, 6.3)) for k in (2, 3, 4)]
    points = []
    for i in range(48):
        t = 2 * math.pi * i / 48
        radius = side * 0.3 * (1 + sum(a * math.cos(k * t + p) for k, a, p in waves))
        points.append((side / 2 + radius * math.cos(t), side / 2 + rng.uniform(0.6, 0.62) * radius * math.sin(t)))
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).polygon(points, fill=255)
    painted[..., 3] = np.asarray(mask, np.float32)
    return painted


def _verdict_of(shares: dict[str, float]) -> str | None:
    name = max(shares, key=lambda look: shares[look])
    if shares[name] >= _WHOLE:
        return name
    strong = max((share for look, share in shares.items() if look != "none"), default=0.0)
    return WRONG if strong <= _FADED or ("none" not in shares and strong <= _MIXED) else None


def draw_thing(at: Thing, what: str, rng: random.Random) -> tuple[Field, DrawnThing]:
    """One thing of `at`'s class and size, RGBA (side, side, 4), and its label (`visible`: the part that is left)."""
    known = DrawnThing(at.kind, {"none": 1.0}, at.x, at.y, at.diameter, made=what)
    if what == "blend":
        painted, shares, even = _blend(at, rng)
        verdict = _verdict_of(shares)
        return painted, replace(known, looks=shares, verdict=verdict, by_colour=even and verdict == WRONG)
    if what == "altered":
        painted, shares = _altered(at, rng)
        return painted, replace(known, looks=shares, verdict=WRONG, by_colour=True)
    if what in ("hybrid", "blob"):
        return (_hybrid if what == "hybrid" else _blob)(at, rng), replace(known, kind=None, verdict=WRONG)
    thing = random_thing(rng, at.kind) if what == "base" else _looked(at.kind, rng, foreign=what == "foreign")
    thing = _like(thing, at)
    no_face = thing.look is not None and rng.random() < 0.25
    painted, left = pixels_with(thing, faceless(LOOKS[thing.look])) if no_face and thing.look else pixels(thing), 1.0
    if what == "cut":
        kept = painted[..., 3] * (patches(rng, painted.shape[0]) > 0.5)
        left = float(kept.sum() / painted[..., 3].sum())
        painted[..., 3] = kept
    verdict = WRONG if thing.look and LOOKS[thing.look].kind != at.kind else _look_of(thing)
    return painted, replace(known, looks={_look_of(thing): 1.0}, visible=left, verdict=verdict)
