"""Captions of scenes, as varied as prompts are, that know which words name which subjects."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .scene import Scene
from .words import CHARACTERS, GENERAL_PLURALS, WORDS

PLACES: dict[str, tuple[str, ...]] = {
    "grass": ("on grass", "on grass", "in a meadow"),
    "beach": ("at the beach", "on a beach"),
    "snow": ("in snow", "in the snow"),
    "night": ("at night",),
    "desert": ("in the desert", "in a desert"),
    "forest": ("in a forest", "in the forest"),
    "city": ("in a city", "in the city"),
    "room": ("in a room",),
    "sea": ("under water", "in the sea"),
    "sunset": ("at sunset",),
    "lava": ("on lava",),
}
_OPENINGS = ("", "", "", "", "a photo of", "a photo of", "a picture of", "an image of")
_STRAY = ("sks", "sks", "nice", "new", "cute", "good", "zwx", "old", "fine", "happy", "beautiful")
_ENDINGS = ("best quality", "high quality", "masterpiece", "cute", "3d render", "4k", "detailed", "sks")
_NUMBERS = ("", "a", "two", "three", "four")


@dataclass(frozen=True)
class Piece:
    """Some words of a caption, and the subjects of the scene that they name."""

    text: str
    subjects: tuple[int, ...] = ()


@dataclass(frozen=True)
class Caption:
    """A caption in pieces; pieces are parted by spaces, but for commas."""

    pieces: tuple[Piece, ...] = ()

    @property
    def text(self) -> str:
        """The caption as one string."""
        return " ".join(piece.text for piece in self.pieces).replace(" ,", ",")

    def spans(self, count: Callable[[str], int]) -> list[tuple[range, tuple[int, ...]]]:
        """Positions of the tokens that name subjects; `count` tells how many tokens a piece has."""
        found, position = [], 1  # the first is the start token
        for piece in self.pieces:
            length = count(piece.text)
            if piece.subjects:
                found.append((range(position, position + length), piece.subjects))
            position += length
        return found


@dataclass
class Writer:
    """Writes captions. `names` gives names to held-out characters.

    Chances: `general` of a class word ("person"), `stray` of an idle word, `place` of naming the background.
    """

    rng: random.Random
    names: Mapping[str, str] = field(default_factory=dict)
    general: float = 0.15
    stray: float = 0.1
    place: float = 0.6

    def caption(self, scene: Scene, ending: str = "") -> Caption:
        """A random true caption of the scene; all its subjects are named. `ending` are words for its end."""
        tags = self.rng.random() < 0.1
        nouns = self._nouns(scene)
        groups = [] if tags else self._relation(scene, nouns)
        if not groups:
            groups = self._listed(scene, nouns, tags)
        opening = "" if tags else self.rng.choice(_OPENINGS)
        pieces = [Piece(opening)] if opening else []
        pieces += groups
        if self.rng.random() < self.place:
            place = self.rng.choice(PLACES[scene.background])
            tag = place if self.place == 1 else place.split()[-1]
            pieces += [Piece(","), Piece(tag)] if tags else [Piece(place)]
        if ending:
            pieces += [Piece(","), Piece(ending)]
        for extra in self.rng.sample(_ENDINGS, self.rng.choices((0, 1, 2), (0.88, 0.06, 0.06))[0]):
            pieces += [Piece(","), Piece(extra)]
        return Caption(tuple(pieces))

    def _nouns(self, scene: Scene) -> list[str]:
        """A noun for each subject; all of one word are called alike."""
        chosen: dict[str, str] = {}
        for one in scene.subjects:
            if one.name not in chosen:
                general = one.general if one.general and self.rng.random() < self.general else None
                chosen[one.name] = self.names.get(one.name) or general or one.kind
        return [chosen[one.name] for one in scene.subjects]

    def _phrase(self, noun: str, subjects: tuple[int, ...], bare: bool = False) -> list[Piece]:
        """The noun with its article, or several in the plural: "a wizard", "two cats"."""
        words = noun if len(subjects) == 1 else plural(noun)
        if self.rng.random() < self.stray:
            words = f"{self._stray_word()} {words}"
        if bare and len(subjects) == 1:
            return [Piece(words, subjects)]
        first = _NUMBERS[len(subjects)] if len(subjects) > 1 else "an" if words[0] in "aeiou" else "a"
        return [Piece(first), Piece(words, subjects)]

    def _stray_word(self) -> str:
        """A word that says nothing about the picture, so that unknown words do no harm to it."""
        if self.rng.random() < 0.7:
            return self.rng.choice(_STRAY)
        return "".join(self.rng.choice("bcdfghjklmnprstvwz") + self.rng.choice("aeiou") for _ in range(2))

    def _relation(self, scene: Scene, nouns: Sequence[str]) -> list[Piece]:
        """ "a king behind a robot"; empty where the scene has no relation that is worth words."""
        if scene.relation is None or self.rng.random() < 0.15:
            return []
        kind, i, j = scene.relation
        if kind == "behind" and self.rng.random() < 0.4:
            kind, i, j = "in front of", j, i
        elif kind == "wearing" and self.rng.random() < 0.2:
            kind = "with"
        elif kind == "beside":
            i, j = self.rng.sample((i, j), 2)
            if nouns[i] == nouns[j] and scene.subjects[i].x > scene.subjects[j].x:
                i, j = j, i
            left = scene.subjects[i].x < scene.subjects[j].x
            kind = self.rng.choice(("next to", "next to", "beside", "with", "left of" if left else "right of"))
        return [*self._phrase(nouns[i], (i,)), Piece(kind), *self._phrase(nouns[j], (j,))]

    def _listed(self, scene: Scene, nouns: Sequence[str], tags: bool) -> list[Piece]:
        """ "a wizard, two cats and a fox"; those of one noun from left to right."""
        order = self._order(scene, nouns)
        phrases: list[list[Piece]] = []
        for noun in dict.fromkeys(nouns[i] for i in order):
            alike = tuple(i for i in order if nouns[i] == noun)
            together = len(alike) > 1 and noun.split()[-1] in _PLURALS and self.rng.random() < 0.6
            for subjects in [alike] if together else [(i,) for i in alike]:
                phrases.append(self._phrase(noun, subjects, tags))
        if self.rng.random() < 0.7 or len(phrases) < 3:
            phrases.sort(key=lambda phrase: order.index(phrase[-1].subjects[0]))
        joined: list[Piece] = []
        for i, phrase in enumerate(phrases):
            last = i == len(phrases) - 1
            joined += [] if i == 0 else [Piece("and" if last and not tags else ",")]
            joined += phrase
        return joined

    def _order(self, scene: Scene, nouns: Sequence[str]) -> list[int]:
        """Subjects in a random order of mention; those of one noun from left to right."""
        drawn = self.rng.sample(range(len(nouns)), len(nouns))
        waiting = sorted(drawn, key=lambda i: scene.subjects[i].x)
        order = []
        for noun in [nouns[i] for i in drawn]:
            order.append(next(i for i in waiting if nouns[i] == noun))
            waiting.remove(order[-1])
        return order


_PLURALS = {word.name: word.many for word in WORDS.values()} | GENERAL_PLURALS
_PLURALS |= {one.kind: f"{one.kind}s" for one in CHARACTERS.values() if one.kind not in _PLURALS}


def plural(noun: str) -> str:
    """The plural of a noun that may have words before it."""
    *before, last = noun.split()
    return " ".join([*before, _PLURALS.get(last, f"{last}s")])
