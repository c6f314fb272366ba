"""How many subjects a prompt asks for, by its counts: "2girls", "1boy", "solo"."""

from __future__ import annotations

import re

from .role_words import ONE_EACH, REGIONS, SEVERAL

_WORD = re.compile(r"[^\W_]+")
_NUMBERED = re.compile(r"(?<!\w)([1-9])\+?[ _]?(girl|boy|other)s?(?!\w)")
_SOLO = re.compile(r"(?<!\w)solo(?!\w)", re.I)
_ONE = re.compile(r"(?<!\w)1[ _]?(?:girl|boy|man|woman)(?!\w)", re.I)


def asks_for_one(text: str) -> bool:
    """Whether a prompt asks for one person: "solo", "1girl"."""
    return (_SOLO.search(text) or _ONE.search(text)) is not None


def several_subjects(text: str) -> bool:
    """Whether a prompt asks for several subjects: "2girls", "1boy ... 1girl"."""
    low = text.casefold()
    if SEVERAL.search(low) or all(pattern.search(low) for pattern in ONE_EACH):
        return True
    return len(_ONE.findall(text)) > 1 or any(word in REGIONS for word in _WORD.findall(text))


def persons_asked(text: str) -> int:
    """How many persons the counts of a prompt ask for: 0 without counts, 3 for "2girls, 1boy", 2 for "1girl, 1girl"."""
    counts: dict[str, list[int]] = {}
    for number, kind in _NUMBERED.findall(text.casefold()):
        counts.setdefault(kind, []).append(int(number))
    return sum(max(*numbers, numbers.count(1)) for numbers in counts.values())
