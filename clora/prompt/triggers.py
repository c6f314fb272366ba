"""Trigger words to insert before a subject's words: those of tags elsewhere, and those missing from the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .subjects import Subject
from .tags import LoraTag
from .text import ResolvedText
from .words import find_words, same_words

_SYNTAX = re.compile(r"[<>()\[\]{}|:\\]")
_LONGEST = 6  # words; longer texts describe whole images


class Trigger(NamedTuple):
    """`words` to insert at `offset` of the prompt, in the variant of tag number `tag`, which is of the LoRA `name`.

    `given`: its tag has them; otherwise they come from the LoRA's activation text.
    """

    offset: int
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
    """For each concept the triggers to insert before its words; all others replace their tags.

    These are the triggers of tags that come after their subject, or that have another subject in between. If a tag has
    no trigger= (not even an empty one), these are also the words of the LoRA's activation text that the prompt lacks:
    the part before the first comma, without the words at its end that the subject has too. "sks person" adds "sks" to
    "tall person" and to "person waving".
    """
    found: list[list[Trigger]] = []
    for group in groups:
        own: dict[str, Trigger] = {}
        for i in group.tags:
            tag = tags[i]
            if tag.trigger_given or tag.without_lora:
                words = "" if _is_in_front(tag, group, groups) else tag.trigger or ""
            else:
                words = _missing(base, group, groups, (activation_texts(tag.name) or [""])[0])
            if words:
                own.setdefault(same_words(words), Trigger(min(group.offsets), words, i, tag.name, tag.trigger_given))
        found.append(list(own.values()))
    return found


def _is_in_front(tag: LoraTag, group: Subject, groups: Sequence[Subject]) -> bool:
    between = range(tag.span.end, max(group.offsets))
    others = (offset for other in groups if other is not group for offset in other.offsets)
    return tag.span.start < max(group.offsets) and not any(offset in between for offset in others)


def _missing(base: ResolvedText, group: Subject, groups: Sequence[Subject], text: str) -> str:
    phrase = text.split(",")[0]
    words = [] if _SYNTAX.search(phrase) else phrase.split()
    subject = {same_words(word) for word in group.words.split()}
    while words and same_words(words[-1]) in subject:
        words.pop()
    if words and same_words(words[0]) in subject:  # "Anna" has the trigger of "anna woman"
        return ""
    if not words or len(words) > _LONGEST:
        return ""
    others = {offset for other in groups if other is not group for offset in other.offsets}
    present = any(not others.issuperset(offsets) for offsets in find_words(base, " ".join(words)))
    return "" if present else " ".join(words)


def added_trigger_warning(trigger: Trigger, subject: str) -> str:
    """The warning about a trigger that is inserted although no tag asks for it."""
    return (
        f'The trigger "{trigger.words}" of the LoRA "{trigger.name}" is not in the prompt, so CLoRA adds it before '
        f'"{subject}" in this LoRA\'s own variant. To leave it out, write an empty trigger= in the tag.'
    )
