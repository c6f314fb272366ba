"""What a picture holds: subjects with places and depth, a background, a style; and how scenes are drawn at random."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from .backgrounds import BACKGROUNDS, SIZE
from .words import CHARACTERS, GROUPS, WEARABLE, WEARERS, WORDS

BACKGROUND_SEEDS = 3  # how many pictures there are of each background
RELATIONS = ("beside", "behind", "holding", "riding", "wearing")
# Longer sides in pixels, of subjects and of what they hold or wear. One size, and places on a grid of two latents: a
# cell of the network's second level then shows one of 49 parts of a subject, and not one of 800 for several sizes
# and a finer grid. A small model learns that within hours.
SIDE, SMALL = 112, 64
CELL = 16

Place = tuple[float, float, int]
"""Centre and side, in pixels."""


@dataclass(frozen=True)
class Subject:
    """One character or thing. `name` is one of WORDS or of CHARACTERS.

    `x` and `y` are the centre and `side` the longer side in pixels; `style` redraws this subject only.
    """

    name: str
    file: str
    x: float = SIZE / 2
    y: float = SIZE / 2
    side: int = 150
    style: str | None = None

    @property
    def held_out(self) -> bool:
        """Whether this is a character the base does not know."""
        return self.name in CHARACTERS

    @property
    def kind(self) -> str:
        """The word the base calls it by."""
        return CHARACTERS[self.name].kind if self.held_out else self.name

    @property
    def general(self) -> str | None:
        """A more general class word, if there is one."""
        return None if self.held_out else WORDS[self.name].general

    @property
    def recolour(self) -> str | None:
        """How its picture is recoloured."""
        return CHARACTERS[self.name].recolour if self.held_out else None


@dataclass(frozen=True)
class Scene:
    """Subjects from back to front on a background. `style` redraws the whole picture.

    `relation` is what subject `first` does to subject `second`: ("riding", 0, 1).
    """

    subjects: tuple[Subject, ...]
    background: str = "grass"
    seed: int = 0
    style: str | None = None
    relation: tuple[str, int, int] | None = None


def subject(name: str, rng: random.Random, style: str | None = None) -> Subject:
    """A subject with one of its files; where it is comes later."""
    file = CHARACTERS[name].file if name in CHARACTERS else rng.choice(WORDS[name].files)
    return Subject(name, file, style=style)


def random_names(count: int, rng: random.Random) -> list[str]:
    """Names of words, people most of all; one in six pairs is of one word or of two people."""
    if count > 1 and rng.random() < 0.17:
        alike = rng.random() < 0.55
        group = rng.choices(list(GROUPS), (0.5, 0.3, 0.1, 0.1))[0]
        first = rng.choice(GROUPS[group])
        return [first, first if alike else rng.choice(GROUPS["person"]), *random_names(count - 2, rng)]
    if count == 2 and rng.random() < 0.05:
        return [rng.choice([name for name in WEARERS if name in WORDS]), rng.choice(WEARABLE)]
    groups = rng.choices(list(GROUPS), (0.42, 0.32, 0.1, 0.16), k=count)
    return [rng.choice(GROUPS[group]) for group in groups]


def _apart(count: int, rng: random.Random, near: float) -> list[Place]:
    """Centres and sides of `count` subjects whose centres are `near` mean sides apart, or more."""
    while True:
        places: list[Place] = []
        for _ in range(60):
            d = SIDE
            x, y = (rng.uniform(d / 2 + 2, SIZE - d / 2 - 2) for _ in range(2))
            if count < 3:
                y = rng.uniform(min(125, SIZE - d / 2 - 2), SIZE - d / 2 - 2)
            if all(math.hypot((x - u) * 1.1, y - v) > near * (d + e) / 2 for u, v, e in places):
                places.append((x, y, d))
            if len(places) == count:
                return sorted(places, key=lambda place: place[1] + place[2] / 2)


def _related(relation: str, rng: random.Random) -> list[Place]:
    """Places of two subjects, the one behind first."""
    side, d = rng.choice((-1, 1)), SIDE
    if relation == "behind":
        x, y = rng.uniform(92, 164), rng.uniform(84, 118)
        return [(x, y, d), (x + side * rng.uniform(0.32, 0.55) * d, y + rng.uniform(0.25, 0.45) * d, d)]
    if relation == "riding":
        x, y = rng.uniform(72, 184), rng.uniform(158, 190)
        return [(x, y - 4 * CELL, d), (x, y, d)]
    x, y = rng.uniform(72, 184), rng.uniform(110, 180)
    if relation == "wearing":
        return [(x, y, d), (x, y - 3 * CELL, SMALL)]
    return [(x, y, d), (x + side * CELL, y + 2 * CELL, SMALL)]


def _placed(one: Subject, place: Place) -> Subject:
    x, y, side = place
    left, top = (CELL * round((min(max(v, side * 0.4), SIZE - side * 0.4) - side / 2) / CELL) for v in (x, y))
    return replace(one, x=left + side / 2, y=top + side / 2, side=side)


def arrange(subjects: list[Subject], rng: random.Random, scene: Scene | None = None) -> Scene:
    """A scene of the subjects at random places and, if there are two, in a random relation that suits them.

    The background, style and so on are those of `scene`.
    """
    scene, count = scene or Scene(()), len(subjects)
    relation = _relation(subjects, rng) if count == 2 else None
    if relation in (None, "beside"):
        near = rng.choices((0.98, 0.8, 0.68), (0.55, 0.3, 0.15))[0]
        places = _apart(count, rng, near)
        found = tuple(_placed(one, place) for one, place in zip(subjects, places, strict=True))
        return replace(scene, subjects=found, relation=(relation, 0, 1) if relation else None)
    back, front = subjects
    places = _related(relation, rng)
    return replace(
        scene,
        subjects=(_placed(back, places[0]), _placed(front, places[1])),
        relation=("behind", 0, 1) if relation == "behind" else (relation, 0, 1),
    )


def _relation(subjects: list[Subject], rng: random.Random) -> str | None:
    """A relation the two suit, the first being behind; None is a plain "and"."""
    first, second = subjects
    drawn = rng.random()
    if second.kind in WEARABLE and first.name in WEARERS and drawn < 0.75:
        return "wearing"
    riding = not second.held_out and WORDS[second.kind].rideable and _group(first) != "thing"
    if riding and drawn < 0.4:
        return "riding"
    if _group(second) == "thing" and _group(first) == "person" and drawn < 0.4:
        return "holding"
    if 0.4 < drawn < 0.58:
        return "behind"
    return "beside" if drawn > 0.75 else None


def _group(one: Subject) -> str:
    return "person" if one.kind == "person" else WORDS[one.kind].group if one.kind in WORDS else "animal"


def random_scene(rng: random.Random, names: list[str] | None = None, background: str | None = None) -> Scene:
    """A random scene of the base's words, or of `names` in random order."""
    if names is None:
        count = rng.choices((1, 2, 3, 4), (0.25, 0.47, 0.19, 0.09))[0]
        names = random_names(count, rng)
    order = rng.sample(names, len(names))
    if len(order) == 2 and order[0] in {*WEARABLE, "tophat"}:
        order.reverse()
    where = background or rng.choice(BACKGROUNDS)
    scene = Scene((), where, rng.randrange(BACKGROUND_SEEDS))
    return arrange([subject(name, rng) for name in order], rng, scene)


def crowded_scene(rng: random.Random) -> Scene:
    """A random scene of what the base finds hard: three or four subjects, or something held, worn or ridden."""
    if rng.random() < 0.7:
        return random_scene(rng, random_names(rng.choice((3, 4)), rng))
    while True:
        second = GROUPS["thing"] if rng.random() < 0.7 else tuple(name for name in WORDS if WORDS[name].rideable)
        scene = random_scene(rng, [rng.choice(GROUPS["person"] + GROUPS["animal"]), rng.choice(second)])
        if scene.relation and scene.relation[0] in ("holding", "wearing", "riding"):
            return scene
