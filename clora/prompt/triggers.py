"""Trigger words that belong before a subject's words: of tags that stand elsewhere, and those the prompt lacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .subjects import Subject
from .tags import LoraTag
from .text import ResolvedText
from .words import find_words, same_words

_SYNTAX = re.compile(r"[<>()\[\]{}|:\\]")
_LONGEST = 6  # words; what is longer describes pictures


class Trigger(NamedTuple):
    """`words` that belong at the place `at` of the prompt, in the variant of tag number `tag`, of the LoRA `name`.

    `given`: its tag says them; else the LoRA's file does.
    """

    at: int
    words: str
    tag: int
    name: str
    given: bool


def triggers_at_words(
    base: ResolvedText,
    tags: Sequence[LoraTag],
    groups: Sequence[Subject],
    activation_texts: Callable[[str], list[str]],
) -> list[list[Trigger]]:
    """For each concept the triggers that go before its words; the others stand in their tags' places.

    They are those of tags that stand behind their subject or have another one in between, and those that a LoRA's
    activation text names and the prompt lacks, where the tag has no trigger= (be it empty). Of an activation text the
    part before the first comma counts, less the words at its end that the subject has too: "sks ball" brings "sks" to
    "red ball" and to "ball rolling".
    """
    found: list[list[Trigger]] = []
    for group in groups:
        own: dict[str, Trigger] = {}
        for i in group.tags:
            tag = tags[i]
            if tag.trigger_given:
                words = "" if _stands_with(tag, group, groups) else tag.trigger or ""
            else:
                words = _missing(base, group, groups, (activation_texts(tag.name) or [""])[0])
            if words:
                own.setdefault(same_words(words), Trigger(min(group.place), words, i, tag.name, tag.trigger_given))
        found.append(list(own.values()))
    return found


def _stands_with(tag: LoraTag, group: Subject, groups: Sequence[Subject]) -> bool:
    between = range(tag.span.end, max(group.place))
    others = (place for other in groups if other is not group for place in other.place)
    return tag.span.start < max(group.place) and not any(place in between for place in others)


def _missing(base: ResolvedText, group: Subject, groups: Sequence[Subject], text: str) -> str:
    phrase = text.split(",")[0]
    words = [] if _SYNTAX.search(phrase) else phrase.split()
    subject = {same_words(word) for word in group.words.split()}
    while words and same_words(words[-1]) in subject:
        words.pop()
    if not words or len(words) > _LONGEST:
        return ""
    others = {place for other in groups if other is not group for place in other.place}
    stands = any(not others.issuperset(place) for place in find_words(base, " ".join(words)))
    return "" if stands else " ".join(words)


def told(trigger: Trigger, subject: str) -> str:
    """The sentence for the user about a trigger that no tag gives."""
    return (
        f'The trigger "{trigger.words}" of the LoRA "{trigger.name}" is not in the prompt, so it was put before '
        f'"{subject}" in this LoRA\'s own variant; an empty trigger= in its tag leaves it out.'
    )
