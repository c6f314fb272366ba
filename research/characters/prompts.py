"""The benchmark's prompts: `python -m research.characters.prompts` writes `prompts.json`, the same every time.

The prompts are fixed before any method is tuned. A third of each group is for tuning, the rest for the report.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .words import CHARACTERS, WORDS

PROMPTS = Path(__file__).with_name("prompts.json")
SPLITS = ("tuning", "report")
PERSONS = ("genie", "singer", "detective", "troll")
CATS = ("nightcat", "tabby", "mintcat")
OTHERS = ("poodle", "ogre", "peacock", "pinata", "taxi")
STYLES = ("pencil", "gold", "comic")
_PLACES = ("", "", " on grass",
           " at the beach", " in a city", " in a forest", " at night", " in snow", " in the desert",
           " in a room", " at sunset")  # fmt: skip
_OPENINGS = ("", "", "a photo of ", "a picture of ")
_BEARERS = ("horse", "tiger", "elephant", "turtle", "dragon")


@dataclass(frozen=True)
class Instance:
    """One subject a prompt asks for: its class word, whose look it has (a character or a word), its own style."""

    kind: str
    name: str
    style: str | None = None


@dataclass(frozen=True)
class Prompt:
    """One prompt. `relation` is what the first of two subjects does to the second: ("riding", 0, 1)."""

    id: str
    group: str
    split: str
    prompt: str
    expect: tuple[Instance, ...]
    style: str | None = None
    background: str | None = None
    relation: tuple[str, int, int] | None = None

    @property
    def characters(self) -> tuple[str, ...]:
        """The LoRAs of its subjects."""
        return tuple(one.name for one in self.expect if one.name in CHARACTERS)


def named(name: str, trigger: bool = False) -> str:
    """A subject as it stands in a prompt, with its LoRA: "a <lora:genie:1> sks person", "a fox"."""
    if name not in CHARACTERS:
        return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    tag = f"<lora:{name}:1:trigger=sks>" if trigger else f"<lora:{name}:1> sks"
    return f"a {tag} {CHARACTERS[name].kind}"


def own_word(name: str) -> str:
    """One of the base's words as a subject of its own, for prompts with only one LoRA: "a <clora:fox> fox"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} <clora:{name}> {name}"


def joined(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def _instances(names: Sequence[str], styles: Sequence[str | None] = ()) -> tuple[Instance, ...]:
    kept = [*styles, *[None] * len(names)][: len(names)]
    return tuple(
        Instance(CHARACTERS[name].kind if name in CHARACTERS else name, name, style)
        for name, style in zip(names, kept, strict=True)
    )


Draft = tuple[str, tuple[Instance, ...], dict[str, object]]


def _plain(names: Sequence[str], rng: random.Random) -> Draft:
    """Subjects joined by "and", or two by a word of place."""
    trigger = rng.random() < 0.4
    parts = [named(name, trigger) for name in rng.sample(names, len(names))]
    by_text = {named(name, trigger): name for name in names}
    word = rng.choice((" and ", " and ", " and ", " next to ", " with ")) if len(parts) == 2 else None
    text = word.join(parts) if word else joined(parts)
    return rng.choice(_OPENINGS) + text + rng.choice(_PLACES), _instances([by_text[p] for p in parts]), {}


def _different(count: int, rng: random.Random) -> list[str]:
    """Characters of different classes."""
    return rng.sample([rng.choice(PERSONS), rng.choice(CATS), *OTHERS], count)


def _same(rng: random.Random) -> list[str]:
    return rng.sample(PERSONS if rng.random() < 0.65 else CATS, 2)


def _touching(rng: random.Random) -> Draft:
    """One right before the other."""
    names = _same(rng) if rng.random() < 0.5 else _different(2, rng)
    first, second = (named(name) for name in names)
    way, back = rng.choice((("behind", 0), ("in front of", 1)))
    text = f"{first} {way} {second}{rng.choice(_PLACES)}"
    return text, _instances(names), {"relation": ("behind", back, 1 - back)}


def _interacting(rng: random.Random) -> Draft:
    """Riding and holding."""
    if rng.random() < 0.55:
        names, way = [rng.choice((*PERSONS, *CATS)), rng.choice(_BEARERS)], "riding"
    else:
        names, way = [rng.choice(PERSONS), rng.choice(("pinata", "taxi"))], "holding"
    text = f"{named(names[0])} {way} {named(names[1]) if way == 'holding' else own_word(names[1])}"
    return text + rng.choice(_PLACES), _instances(names), {"relation": (way, 0, 1)}


def _each(names: Sequence[str]) -> list[str]:
    """Subjects as they stand in a prompt of which at least two are composed."""
    alone = sum(name in CHARACTERS for name in names) < 2
    return [own_word(name) if alone and name not in CHARACTERS else named(name) for name in names]


def _style(rng: random.Random) -> Draft:
    """A style on everything."""
    style, names = rng.choice(STYLES), _different(2, rng) if rng.random() < 0.6 else [rng.choice(PERSONS), "fox"]
    text = joined(_each(names)) + rng.choice(_PLACES)
    return f"{text}, <lora:{style}:1:role=style> {style} style", _instances(names), {"style": style}


def _style_on_one(rng: random.Random) -> Draft:
    """A style on one subject only."""
    style, first = rng.choice(STYLES), rng.choice((*PERSONS, *CATS, "poodle"))
    second = rng.choice(("fox", "wizard", "robot", "panda", "king"))
    words = f"trigger={style} style"
    if rng.random() < 0.5:  # the base's subject is redrawn, or the character itself
        text = f"{named(first)} and a <clora:{second}><lora:{style}:1:role=style@{second}:{words}> {second}"
        return text + rng.choice(_PLACES), _instances([first, second], [None, style]), {}
    text = f"a <lora:{first}:1><lora:{style}:1:{words}> sks {CHARACTERS[first].kind} and {own_word(second)}"
    return text + rng.choice(_PLACES), _instances([first, second], [style, None]), {}


def _background(rng: random.Random) -> Draft:
    names = _different(2, rng) if rng.random() < 0.5 else [rng.choice((*PERSONS, *CATS)), "dragon"]
    text = joined(_each(names))
    return f"{text} <lora:lava:1:role=background> on lava", _instances(names), {"background": "lava"}


def _outfit(rng: random.Random) -> Draft:
    """A character with the outfit's LoRA."""
    names = [rng.choice(("singer", "troll", "tabby")), "tophat"]
    text = f"{named(names[0])} wearing {named('tophat')}{rng.choice(_PLACES)}"
    return text, _instances(names), {"relation": ("wearing", 0, 1)}


def _as_written(rng: random.Random) -> Draft:
    """Prompts as people write them: tags, quality words, all LoRAs at the end."""
    names = _same(rng) if rng.random() < 0.4 else _different(2, rng)
    words = [f"sks {CHARACTERS[name].kind}" for name in names]
    tags = [f"<lora:{name}:1:words={word.split()[-1]}:trigger=sks>" for name, word in zip(names, words, strict=True)]
    place = rng.choice(("grass", "beach", "city", "forest", "night", "snow"))
    if words[0] == words[1]:
        tags = [f"<lora:{name}:1:words={word.split()[-1]}#{i + 1}>" for i, (name, word) in
                enumerate(zip(names, words, strict=True))]  # fmt: skip
        text = f"a {words[0]} and a {words[1]}, {place}, best quality {' '.join(tags)}"
    elif rng.random() < 0.5:
        text = f"masterpiece, best quality, {words[0]}, {words[1]}, {place} {' '.join(tags)}"
    else:
        text = f"(a {words[0]}:1.1) and a {words[1]}, {place}, detailed, 4k {' '.join(tags)}"
    return text, _instances(names), {}


GROUPS: dict[str, tuple[int, Callable[[random.Random], Draft]]] = {
    "two classes": (15, lambda rng: _plain(_different(2, rng), rng)),
    "same class": (21, lambda rng: _plain(_same(rng), rng)),
    "three": (12, lambda rng: _plain(_different(3, rng) if rng.random() < 0.5 else [*_same(rng), "fox"], rng)),
    "four": (9, lambda rng: _plain([*_different(3, rng), rng.choice(("king", "panda"))], rng)),
    "touching": (12, _touching),
    "interacting": (12, _interacting),
    "style": (12, _style),
    "style on one": (12, _style_on_one),
    "background": (9, _background),
    "outfit": (9, _outfit),
    "as written": (12, _as_written),
}


def make(seed: int = 18) -> list[Prompt]:
    """All prompts, without doubles, and one of each LoRA alone."""
    found: list[Prompt] = []
    for group, (count, draft) in GROUPS.items():
        rng, texts = random.Random(f"{seed} {group}"), dict[str, Draft]()
        while len(texts) < count:
            one = draft(rng)
            texts.setdefault(one[0], one)
        for i, (text, expect, more) in enumerate(texts.values()):
            name = f"{group.replace(' ', '-')}-{i + 1:02}"
            found.append(Prompt(name, group, SPLITS[i % 3 != 0], text, expect, **more))  # type: ignore[arg-type]
    for name in CHARACTERS:
        found.append(Prompt(f"single-{name}", "single", "report", named(name), _instances([name])))
    return found


def load_prompts(path: Path = PROMPTS) -> list[Prompt]:
    """The prompts of a file."""
    found = []
    for entry in json.loads(path.read_text("utf-8")):
        expect = tuple(Instance(**one) for one in entry["expect"])
        relation = tuple(entry["relation"]) if entry["relation"] else None
        found.append(Prompt(**{**entry, "expect": expect, "relation": relation}))
    return found


def main() -> None:
    """Write the file, one prompt a line."""
    lines = ",\n".join(json.dumps(asdict(prompt)) for prompt in make())
    PROMPTS.write_text(f"[\n{lines}\n]\n", "utf-8")
    assert all(one.name in CHARACTERS or one.name in WORDS for prompt in make() for one in prompt.expect)


if __name__ == "__main__":
    main()
