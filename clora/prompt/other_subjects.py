"""Subjects that no LoRA draws: "a king" beside two characters. The base draws them, in places of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .role_words import BEINGS
from .subjects import Subject
from .text import INSERTED, ResolvedText
from .words import Offsets, following_words

MOST = 8
"""Others that are looked for: a picture has no places for more."""
_LONGEST = 4  # words of a subject
_ARTICLE = re.compile(r"(?<![\w-])(?:an?|another)\s+", re.IGNORECASE)
# What stands in front of a subject of its own, not of a part of another one ("holding a dog", "in a house").
_BEFORE = re.compile(
    r"(?:^|[,.;(\n\uff0c\u3001]|\b(?:and|of|beside|near|with|vs|versus|to|behind|riding))\s*$", re.IGNORECASE
)
_NEAR = 20  # characters in front of an article


def other_subjects(base: ResolvedText, groups: Sequence[Subject]) -> tuple[Offsets, ...]:
    """The source offsets of each such subject in the text without tags: a person or an animal after "a" that is
    named beside the concepts `groups`, and is none of them.
    """
    taken = {offset for group in groups for offset in group.offsets}
    found = list[Offsets]()
    for match in _ARTICLE.finditer(base.text):
        if not _BEFORE.search(base.text[max(0, match.start() - _NEAR) : match.start()]):
            continue
        words, at = following_words(base.text, match.end(), len(base.text))
        names = words.casefold().split()
        offsets = tuple(base.offsets[i] for i in at if base.offsets[i] != INSERTED)
        if 0 < len(names) <= _LONGEST and names[-1] in BEINGS and not taken.intersection(offsets):
            found.append(offsets)
            taken.update(offsets)  # "a photo of a king" begins twice
    return tuple(found[:MOST])
