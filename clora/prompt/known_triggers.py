"""Trigger words that a LoRA's file names and the prompt lacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from clora.prompt.subjects import Subject
from clora.prompt.tags import LoraTag
from clora.prompt.text import ResolvedText
from clora.prompt.words import find_words, same_words

_SYNTAX = re.compile(r"[<>()\[\]{}|:\\]")
_LONGEST = 6  # words; what is longer describes pictures


class Added(NamedTuple):
    """`words` that belong at the place `at` of the prompt, in the variant of the LoRA `name`."""

    at: int
    words: str
    name: str


def missing_triggers(
    base: ResolvedText,
    tags: Sequence[LoraTag],
    groups: Sequence[Subject],
    activation_texts: Callable[[str], list[str]],
) -> list[list[Added]]:
    """For each concept the triggers of its LoRAs that stand nowhere in the prompt, to be put before its words.

    A tag with trigger= (be it empty) has said what it wants. Of an activation text the part before the first comma
    counts, less the words it shares with the subject's end: "sks ball" brings "sks" to "red ball".
    """
    found: list[list[Added]] = []
    for group in groups:
        own: dict[str, Added] = {}
        for tag in (tags[i] for i in group.tags):
            texts = [] if tag.trigger_given else activation_texts(tag.name)
            words = _missing(base, group, groups, texts[0]) if texts else ""
            if words:
                own.setdefault(same_words(words), Added(min(group.place), words, tag.name))
        found.append(list(own.values()))
    return found


def _missing(base: ResolvedText, group: Subject, groups: Sequence[Subject], text: str) -> str:
    phrase = text.split(",")[0]
    words = [] if _SYNTAX.search(phrase) else phrase.split()
    subject = [same_words(word) for word in group.words.split()]
    while words and subject and same_words(words[-1]) == subject[-1]:
        words.pop()
        subject.pop()
    if not words or len(words) > _LONGEST:
        return ""
    others = {place for other in groups if other is not group for place in other.place}
    stands = any(not others.issuperset(place) for place in find_words(base, " ".join(words)))
    return "" if stands else " ".join(words)


def told(added: Added, subject: str) -> str:
    """The sentence for the user."""
    return (
        f'The trigger "{added.words}" of the LoRA "{added.name}" is not in the prompt, so it was put before '
        f'"{subject}" in this LoRA\'s own variant; an empty trigger= in its tag leaves it out.'
    )
