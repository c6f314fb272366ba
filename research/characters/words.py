"""What the base model knows, and the characters it has never seen: names and the picture files of each.

A file is named by its Unicode code points, as in the package `@lobehub/fluent-emoji-3d`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word of the base: its files, the class words it may be called by, and its plural."""

    name: str
    files: tuple[str, ...]
    group: str  # "person", "animal", "creature" or "thing"
    general: str | None = None  # a class word that captions sometimes use instead: "person" for "wizard"
    rideable: bool = False
    plural: str = ""

    @property
    def many(self) -> str:
        """The plural."""
        return self.plural or f"{self.name}s"


@dataclass(frozen=True)
class Character:
    """A held-out character: its class word, its file, and how that is recoloured."""

    name: str
    kind: str
    file: str
    recolour: str | None = None


_PERSONS = {
    "wizard": "1f9d9-200d-2642-fe0f",
    "elf": "1f9dd",
    "princess": "1f478",
    "king": "1fac5",
    "ninja": "1f977",
    "astronaut": "1f9d1-200d-1f680",
    "vampire": "1f9db",
    "superhero": "1f9b8",
    "cook": "1f9d1-200d-1f373",
    "guard": "1f482",
    "mermaid": "1f9dc-200d-2640-fe0f",
}
_ANIMALS = {
    "dog": "1f436",
    "cat": "1f431 1f408",
    "fox": "1f98a",
    "panda": "1f43c",
    "frog": "1f438",
    "owl": "1f989",
    "lion": "1f981",
    "tiger": "1f405",
    "rabbit": "1f430",
    "bear": "1f43b",
    "penguin": "1f427",
    "horse": "1f40e",
    "turtle": "1f422",
    "elephant": "1f418",
    "parrot": "1f99c",
}
_CREATURES = {
    "robot": "1f916",
    "ghost": "1f47b",
    "alien": "1f47d",
    "pumpkin": "1f383",
    "monster": "1f47e",
    "dragon": "1f409",
}
_THINGS = {
    "house": "1f3e0",
    "car": "1f697",
    "pizza": "1f355",
    "balloon": "1f388",
    "crown": "1f451",
    "hat": "1f452",
    "rocket": "1f680",
    "cactus": "1f335",
    "guitar": "1f3b8",
    "gift": "1f381",
    "toy": "1f9f8",
}
_GENERAL = {"owl": "bird", "parrot": "bird"}
_RIDEABLE = ("tiger", "horse", "elephant", "turtle", "car", "dragon")
WEARABLE = ("crown", "hat")
# Those whose bare heads are in the middle of the top.
WEARERS = ("elf", "vampire", "superhero", "astronaut", "dog", "fox", "panda", "bear", "frog", "lion",
           "penguin", "ghost", "alien", "pumpkin", "singer", "troll", "tabby")  # fmt: skip
_PLURALS = {"elf": "elves", "princess": "princesses", "superhero": "superheroes", "fox": "foxes", "cactus": "cacti"}
GENERAL_PLURALS = {"person": "people", "bird": "birds"}


def _words() -> dict[str, Word]:
    found = {}
    for group, table in (("person", _PERSONS), ("animal", _ANIMALS), ("creature", _CREATURES), ("thing", _THINGS)):
        for name, files in table.items():
            kept = tuple(files.split())
            general = "person" if group == "person" else _GENERAL.get(name)
            found[name] = Word(name, kept, group, general, name in _RIDEABLE, _PLURALS.get(name, ""))
    return found


WORDS: dict[str, Word] = _words()
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(word.name for word in WORDS.values() if word.group == group)
    for group in ("person", "animal", "creature", "thing")
}

CHARACTERS: dict[str, Character] = {
    character.name: character
    for character in (
        Character("genie", "person", "1f9de"),
        Character("singer", "person", "1f9d1-200d-1f3a4"),
        Character("detective", "person", "1f575-fe0f"),
        Character("troll", "person", "1f9cc"),
        Character("nightcat", "cat", "1f408-200d-2b1b"),
        Character("tabby", "cat", "1f431", "tabby"),
        Character("mintcat", "cat", "1f408", "mint"),
        Character("poodle", "dog", "1f429"),
        Character("ogre", "monster", "1f479"),
        Character("peacock", "bird", "1f99a"),
        Character("pinata", "toy", "1fa85"),
        Character("taxi", "car", "1f695"),
        Character("tophat", "hat", "1f3a9"),
    )
}

# Files that backgrounds are made of; no word names them.
SCENERY = {"leafy": "1f333", "fir": "1f332", "palm": "1f334", "office": "1f3e2", "bank": "1f3e6", "hotel": "1f3e8"}


def files() -> list[str]:
    """All files that are used, without doubles."""
    named = [file for word in WORDS.values() for file in word.files]
    named += [character.file for character in CHARACTERS.values()]
    return sorted({*named, *SCENERY.values()})
