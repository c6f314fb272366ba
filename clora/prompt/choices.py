"""The words of a prompt that can be a concept's, to choose from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

from .names import PromptWords, Window
from .role_words import CLASSES, GENERAL, NO_VERBS, PICTURES, PREPOSITIONS, QUALITY, SURROUNDINGS, VERBS
from .roles import is_count, too_general
from .subjects import Subject
from .survey import Survey
from .text import INSERTED
from .words import ARTICLES, JOINING, Offsets, find_words, same_words

MOST_CHOICES = 80
_MOST_WORDS = 5
_NOT_IN_CORRECTIONS = frozenset(",=#:<>\n")
"""Signs that a correction's words cannot have."""
_ENDS = ARTICLES | JOINING | VERBS | PREPOSITIONS | frozenset({"each", "other", "very", "next", "it", "as", "any"})
"""Words between phrases."""
_NO_NOUNS = frozenset(
    {"outdoors", "indoors", "smile", "grin", "blush", "frown", "serious", "day", "night", "text", "style", "art",
     "background", "realistic", "signature", "watermark", "cosplay", "parody", "data", "dataset", "images", "closeup"}
)  # fmt: skip
_BETWEEN = re.compile(r"(?:[\s()\[\]]|:[+-]?[\d.]+(?=[)\]]))+")


@dataclass(frozen=True)
class Choice:
    """Words of the prompt. `value` is how a correction names them: "cat", or "cat#2" where the prompt has several.

    `concepts` are the numbers of the concepts that have exactly these words, `overlapping` of those that have a part
    of them, or more.
    """

    words: str
    value: str
    concepts: tuple[int, ...] = ()
    overlapping: tuple[int, ...] = ()


def choices(found: Survey) -> tuple[Choice, ...]:
    """The words to choose from, in the order of the prompt: phrases, their single words, and what concepts have."""
    words = PromptWords(found.base, [tag.span.start for tag in found.tags])
    offered: dict[Offsets, str] = {}
    for window in islice(_windows(words), MOST_CHOICES):
        offered.setdefault(_offsets(words, window), words.words(window))
    for group in found.groups:
        if group.offsets and not any(_has(group, text, offsets) for offsets, text in offered.items()):
            offered[group.offsets] = group.words
    listed = sorted(offered.items(), key=lambda item: (item[0][:1], -item[0][-1] if item[0] else 0))
    places = cache(lambda text: find_words(found.base, text))
    made = (_choice(found, text, offsets, places) for offsets, text in listed)
    return tuple(one for one in made if one is not None)


def _windows(words: PromptWords) -> Iterator[Window]:
    """Phrases between commas, articles, joining words and verbs, each followed by its single words."""
    for phrase in _phrases(words):
        whole = Window(phrase[0].start, phrase[-1].end, phrase[0].item)
        if len(phrase) <= _MOST_WORDS:
            if not can_be_subject(words.words(whole)):
                continue
            yield whole
        yield from (one for one in phrase if len(phrase) > 1 and can_be_subject(words.words(one)))


def _phrases(words: PromptWords) -> Iterator[list[Window]]:
    """Neighbouring words of an item that belong together."""
    text = words.base.text
    items = {i: text[item.start : item.end].strip() for i, item in enumerate(words.items)}
    general = {i for i, item in items.items() if " " in item and not can_be_subject(item.strip("()[] "))}
    phrase: list[Window] = []
    after = 0
    for span, item in words.tokens:
        if span.start < after or item in general:
            continue  # a further part of the same word, of "looking at viewer"
        window = words.whole(Window(span.start, span.end, item))
        after = window.end
        low = text[window.start : window.end].casefold()
        joined = phrase and phrase[-1].item == item and _BETWEEN.fullmatch(text, phrase[-1].end, window.start)
        ends = low in _ENDS or (low.endswith("ing") and len(low) > 4 and low not in NO_VERBS)
        if phrase and (ends or not joined):
            yield phrase
            phrase = []
        if not ends:
            phrase.append(window)
    if phrase:
        yield phrase


def can_be_subject(phrase: str) -> bool:
    """Whether a phrase can name a subject: no count, quality, rating, score, pose, or kind of picture."""
    words = phrase.casefold().replace("_", " ").split()
    plain = " ".join(words)
    if not words or QUALITY.fullmatch(plain) or is_count(plain) or words[-1] in PICTURES:
        return False
    if len(words) > 1:
        return plain not in GENERAL or words[-1] in CLASSES | SURROUNDINGS
    if plain in SURROUNDINGS or (len(plain) == 1 and not plain.isascii()):
        return True
    return not (plain in _NO_NOUNS or too_general(words) or plain.isdecimal())


def _offsets(words: PromptWords, window: Window) -> Offsets:
    """The offsets of a window's words in the prompt, without attention syntax between them."""
    found = words.base.offsets[window.start : window.end]
    return tuple(offset for offset in found if offset != INSERTED)


def _choice(
    found: Survey, text: str, offsets: Offsets, places: Callable[[str], list[Offsets]]
) -> Choice | None:  # fmt: skip
    """The choice with its number among equal words; None if a correction cannot name it."""
    if not offsets or _NOT_IN_CORRECTIONS & set(text):
        return None
    occurrences = places(text)
    number = next((i for i, at in enumerate(occurrences, 1) if at[0] == offsets[0]), 0)
    if not number:
        return None
    exact = [i for i, group in enumerate(found.groups) if _has(group, text, offsets)]
    part = (i for i, group in enumerate(found.groups) if _overlap(group.offsets, offsets))
    value = text if len(occurrences) == 1 else f"{text}#{number}"
    return Choice(text, value, tuple(exact), tuple(i for i in part if i not in exact))


def _overlap(one: Sequence[int], other: Sequence[int]) -> bool:
    return not set(one).isdisjoint(other)


def _has(group: Subject, text: str, offsets: Offsets) -> bool:
    return same_words(group.words) == same_words(text) and offsets[:1] != () and offsets[0] in group.offsets
