"""Captions of scenes, varied like prompts."""

from __future__ import annotations

import random

from .scene import Scene, Thing

BACKGROUND_PHRASES = {
    "grass": "on grass",
    "sand": "on sand",
    "water": "on water",
    "snow": "in snow",
    "night": "at night",
    "lava": "on lava",
}
_OPENINGS = ("", "", "", "", "a photo of ", "a photo of ", "a picture of ", "an image of ")
_STRAY = ("sks", "sks", "nice", "new", "cute", "photo", "my", "good", "style", "zwx", "old", "fine")
_VOWELS = "aeiou"

Names = dict[str, str]


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    return f"{'an' if phrase[0] in _VOWELS else 'a'} {phrase}"


def stray_word(rng: random.Random) -> str:
    """A word without meaning for the picture, so that the model learns to ignore unknown words."""
    if rng.random() < 0.6:
        return rng.choice(_STRAY)
    return "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice(_VOWELS) for _ in range(rng.randint(1, 3)))


def thing_phrase(
    thing: Thing, rng: random.Random, detail: float = 0.9, stray: float = 0.0, names: Names | None = None
) -> str:
    """The thing's name with its article, with attributes at chance `detail` and a stray word at chance `stray`.

    Attributes that are typical of the class are named one in five times.
    `names` names things of an instance look, for instance {"sunball": "sks ball"}.
    """
    words = [(names or {}).get(thing.look or "", thing.kind)]
    if thing.look is None and rng.random() < (0.2 if thing.is_typical else detail):
        words.insert(0, thing.colour)
        if thing.texture != "plain":
            words.insert(rng.randint(0, 1), thing.texture)
    if rng.random() < stray:
        words.insert(0, stray_word(rng))
    return article(" ".join(words))


def join(phrases: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(phrases[:-1]), phrases[-1]]))


def order(scene: Scene, rng: random.Random) -> tuple[Thing, ...]:
    """The things in a random order of mention; those of one class from left to right."""
    drawn = rng.sample(scene.things, len(scene.things))
    waiting = sorted(drawn, key=lambda thing: thing.x)
    mentioned = []
    for kind in [thing.kind for thing in drawn]:
        mentioned.append(next(thing for thing in waiting if thing.kind == kind))
        waiting.remove(mentioned[-1])
    return tuple(mentioned)


def caption(
    scene: Scene,
    rng: random.Random,
    detail: float = 0.9,
    stray: float = 0.12,
    background: float = 0.6,
    names: Names | None = None,
    mentioned: tuple[Thing, ...] | None = None,
) -> str:
    """A random correct caption: things in any order, attributes sometimes left out, the background named sometimes.

    All things are named, in the order `mentioned` if given, else as in `order`. Two of one class are named
    twice ("a ball and a ball"), the left one first.
    """
    things = mentioned or order(scene, rng)
    phrases = [thing_phrase(thing, rng, detail, stray, names) for thing in things]
    text = rng.choice(_OPENINGS) + join(phrases)
    return f"{text} {BACKGROUND_PHRASES[scene.background]}" if rng.random() < background else text
