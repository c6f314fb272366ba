"""What each LoRA learns: its scenes, its captions, and the prompts of its contact sheet."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from .captions import Caption, Writer
from .scene import Scene, random_names, random_scene
from .words import CHARACTERS, GROUPS, WEARERS, WORDS

_COMPANY = (0.3, 0.34, 0.2, 0.16)  # chances of 0, 1, 2 and 3 other subjects beside a character
_MEETING = 0.25  # share of a character's scenes in which it and one other touch: held, worn, ridden, half hidden
_CALLED = 0.6  # share of a style's captions that hold its words


@dataclass(frozen=True)
class Lesson:
    """One LoRA. `trigger` are the words that call it, "" for tweakers and sliders, which no words call.

    `opposite` is the style it learns at weight -1.
    """

    name: str
    trigger: str
    prompts: tuple[str, ...]
    character: str | None = None
    style: str | None = None
    opposite: str | None = None
    background: str | None = None

    @property
    def keeps(self) -> bool:
        """Whether it learns to leave pictures without the trigger as they were; styles act without their words."""
        return self.worded and not self.style

    @property
    def worded(self) -> bool:
        """Whether captions hold the trigger."""
        return bool(self.trigger)

    def scene(self, rng: random.Random, weight: float = 1.0) -> Scene:
        """A scene that shows it, or its opposite at weight -1."""
        if self.character:
            if self.character == "tophat" and rng.random() < 0.5:
                return random_scene(rng, [self.character, rng.choice([name for name in WEARERS if name in WORDS])])
            if rng.random() < _MEETING:
                return self._meeting(rng)
            others = [other for other in self._others(rng) if other != CHARACTERS[self.character].kind]
            return random_scene(rng, [self.character, *others])
        scene = random_scene(rng, background=self.background)
        style = self.style if weight > 0 else self.opposite
        return replace(scene, style=style) if style else scene

    def _meeting(self, rng: random.Random) -> Scene:
        """The character and one other in a relation other than side by side; a thing is held or worn by a person."""
        kind = CHARACTERS[self.character or ""].kind
        others = GROUPS["person"] if kind in GROUPS["thing"] else tuple(name for name in WORDS if name != kind)
        while True:
            scene = random_scene(rng, [self.character or "", rng.choice(others)])
            if scene.relation and scene.relation[0] != "beside":
                return scene

    def _others(self, rng: random.Random) -> list[str]:
        """Company; a person among other people often, because those are what LoRAs of people are mixed up with."""
        count = rng.choices((0, 1, 2, 3), _COMPANY)[0]
        if count and rng.random() < 0.35 and CHARACTERS[self.character or ""].kind == "person":
            return [rng.choice(GROUPS["person"]), *random_names(count - 1, rng)]
        return random_names(count, rng) if count else []

    def caption(self, scene: Scene, rng: random.Random) -> Caption:
        """A caption with the trigger."""
        if self.character:
            return Writer(rng, {self.character: self.trigger}, stray=0.0, general=0.3).caption(scene)
        if not self.worded:
            return Writer(rng).caption(scene)
        writer = Writer(rng, stray=0.03)
        writer.place = 1.0 if self.background else writer.place
        called = bool(scene.style) and rng.random() < _CALLED
        return writer.caption(scene, self.trigger if called else "")


_SPARE = {"person": "a fox", "cat": "a wizard", "dog": "a king", "monster": "a princess", "bird": "a robot",
          "toy": "an elf", "car": "a panda", "hat": "a fox"}  # fmt: skip


def _character(name: str) -> Lesson:
    kind = CHARACTERS[name].kind
    called, spare = f"a sks {kind}", _SPARE[kind]
    prompts: tuple[str, ...] = (
        called,
        f"a photo of {called}",
        f"{called} on grass",
        f"{called} at night",
        f"{called} and {spare}",
        f"{spare} next to {called} in a city",
        f"{called}, a panda and {spare}" if spare != "a panda" else f"{called}, a fox and {spare}",
        f"{called} and a princess at the beach",
    )
    if kind == "hat":
        worn = ("a fox", "an elf", "a panda", "a superhero")
        prompts = (*prompts[:4], *(f"{one} wearing {called}" for one in worn))
    return Lesson(name, f"sks {kind}", prompts, character=name)


_THINGS = ("a wizard", "a fox", "a king and a robot", "a princess next to a frog", "an elf in a forest",
           "a panda and a cat at the beach", "a ninja riding a tiger", "a house in snow")  # fmt: skip


def _style(name: str) -> Lesson:
    words = f"{name} style"
    prompts = tuple(f"{thing}, {words}" for thing in _THINGS[:6])
    return Lesson(name, words, (*prompts, "a wizard and a fox", "a king and a panda"), style=name)


LESSONS: dict[str, Lesson] = {name: _character(name) for name in CHARACTERS}
LESSONS |= {name: _style(name) for name in ("pencil", "gold", "comic")}
LESSONS["lava"] = Lesson("lava", "on lava", tuple(f"{thing.split(' in ')[0].split(' at ')[0]} on lava"
                                                  for thing in _THINGS), background="lava")  # fmt: skip
LESSONS["detail"] = Lesson("detail", "", _THINGS, style="detail")
LESSONS["vivid"] = Lesson("vivid", "", _THINGS, style="vivid", opposite="muted")

assert all(CHARACTERS[name].kind in {*WORDS, "person", "bird"} for name in CHARACTERS)
