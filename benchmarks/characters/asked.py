"""What a plain caption asks for ("two cats in snow", "a sks person"), so that contact sheets can be judged."""

from __future__ import annotations

import re
from dataclasses import replace

from benchmarks.characters.boxes import classes
from research.characters.captions import PLACES
from research.characters.judge import Verdict
from research.characters.lessons import LESSONS, Lesson
from research.characters.prompts import STYLES, Instance, Prompt
from research.characters.words import CHARACTERS, GENERAL_PLURALS, WORDS

_PLURALS = {word.many: word.name for word in WORDS.values()} | {many: one for one, many in GENERAL_PLURALS.items()}
_PAIRS = (("wizard", "fox", ""), ("panda", "king", "on grass"), ("fox", "princess", "in snow"),
          ("robot", "frog", "at the beach"), ("king", "dragon", ""), ("cat", "robot", "on grass"),
          ("princess", "panda", "in a room"), ("frog", "wizard", "at night"))  # fmt: skip
_SINGULAR = (*WORDS, *GENERAL_PLURALS)
_NAMES = "|".join(sorted((*_PLURALS, *_SINGULAR), key=len, reverse=True))
_RELATIONS = {" behind ": ("behind", 0, 1), " in front of ": ("behind", 1, 0), " riding ": ("riding", 0, 1),
              " holding ": ("holding", 0, 1), " wearing ": ("wearing", 0, 1)}  # fmt: skip


def asked(name: str, group: str, caption: str, lesson: Lesson | None = None, weight: int = 1) -> Prompt:
    """A caption as a prompt, with the lesson's LoRA on everywhere at a weight if there is one.

    A subject called by a class word ("person", "bird") has that as its name: see `named_as_seen`.
    """
    trigger = lesson.trigger if lesson and lesson.character else "sks"
    styles = "|".join(STYLES)
    subjects = re.compile(rf"\b(two )?(?:({styles}) style )?(?:a )?({re.escape(trigger)}|{_NAMES})\b")
    found, ends = list[Instance](), list[tuple[int, int]]()
    for match in subjects.finditer(caption):
        word = match[3]
        if lesson and lesson.character and word == trigger:
            found.append(Instance(CHARACTERS[lesson.character].kind, lesson.character, match[2]))
        elif word != trigger:
            one = Instance(_PLURALS.get(word, word), _PLURALS.get(word, word), match[2])
            found += [one] * (2 if match[1] else 1)
        ends.append(match.span(3))
    between = caption[ends[0][1] : ends[1][0]] if len(found) == len(ends) == 2 else ""
    relation = next((own for words, own in _RELATIONS.items() if words in between), None)
    style = next((one for one in STYLES if caption.endswith(f", {one} style")), None)
    if lesson and lesson.style in STYLES:  # styles act without their words, too
        style = lesson.style
    background = next((place for place, ways in PLACES.items() if any(way in caption for way in ways)), None)
    text = f"{caption} <lora:{lesson.name}:{weight}>" if lesson else caption
    return Prompt(name, group, "report", text, tuple(found), style, background, relation)


def on_one(style: str) -> list[Prompt]:
    """A style on one of two subjects, with CLoRA: a LoRA that is on everywhere has no subject."""
    found = []
    for i, (one, other, place) in enumerate(_PAIRS, start=1):
        tag = f"<lora:{style}:1:role=style@{one}:trigger={style} style>"
        text = f"a <clora:{one}>{tag} {one} and a <clora:{other}> {other}"
        expect = (Instance(one, one, style), Instance(other, other))
        found.append(Prompt(f"{style}-on-one-{i}", style, "report", f"{text} {place}".strip(), expect))
    return found


def named_as_seen(prompt: Prompt, verdict: Verdict) -> Prompt:
    """The prompt with its class words made into names that the picture has: any person is right for "a person"."""
    left = [one.name for one in verdict.subjects]
    for one in prompt.expect:
        if one.name in left:
            left.remove(one.name)
    expect = []
    for one in prompt.expect:
        fitting = [name for name in left if one.name in GENERAL_PLURALS and one.name in classes(name)]
        if fitting:
            left.remove(fitting[0])
        expect.append(replace(one, name=fitting[0]) if fitting else one)
    return replace(prompt, expect=tuple(expect))


def of_lesson(name: str) -> list[Prompt]:
    """The prompts of a LoRA's own contact sheet; those of a slider at weight -1, too."""
    lesson, captions = LESSONS[name], list(enumerate(LESSONS[name].prompts, start=1))
    found = [asked(f"{name}-{i}", name, caption, lesson) for i, caption in captions]
    if lesson.opposite:
        found += [asked(f"{name}-minus-{i}", name, caption, lesson, -1) for i, caption in captions]
    return found
