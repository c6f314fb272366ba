"""Which of two subjects is where, in the prompt's own words: "a cat behind a cat", "a man left of a man"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from .text import Span

_LONGEST = 60  # characters between the subjects
_FIRST_LESS = {0: "behind|above|over|on top of|riding|riding on|sitting on|standing on", 1: "left of"}
_SECOND_LESS = {0: "in front of|below|under|beneath|underneath", 1: "right of"}
_WORDS = {words: (axis, less) for ways, less in ((_FIRST_LESS, True), (_SECOND_LESS, False))
          for axis, own in ways.items() for words in own.split("|")}  # fmt: skip
_HAS = ("wearing", "wears", "dressed in", "holding", "holds", "carrying", "carries")


def _before_a_subject(ways: Iterable[str]) -> re.Pattern[str]:
    """A pattern of one of `ways` at the end of a text, before a subject."""
    words = "|".join(way.replace(" ", r"\s+") for way in sorted(ways, key=len, reverse=True))
    return re.compile(rf"\b({words})\s+(?:(?:an?|the|another|his|her|its|their)\s+)?[\s(\[]*$", re.IGNORECASE)


_RELATION, _ITEM = _before_a_subject(_WORDS), _before_a_subject(_HAS)


class Order(NamedTuple):
    """Of two subjects the one that is nearer to the top (`axis` 0; farther away is higher up) or to the left (1)."""

    first: int
    second: int
    axis: int


def orders(text: str, subjects: Sequence[Sequence[Span]]) -> tuple[Order, ...]:
    """What `text` says of neighbouring subjects, whose words stand at `subjects[number]`."""
    found = list[Order]()
    for one, other, match in _between(text, subjects, _RELATION):
        axis, first_is_less = _WORDS[" ".join(match[1].casefold().split())]
        found.append(Order(*((one, other) if first_is_less else (other, one)), axis))
    return tuple(found)


def items(text: str, subjects: Sequence[Sequence[Span]]) -> tuple[int, ...]:
    """The subjects that another one wears or holds by `text`: "a woman wearing a hat"."""
    return tuple(other for _, other, _ in _between(text, subjects, _ITEM))


def _between(
    text: str, subjects: Sequence[Sequence[Span]], pattern: re.Pattern[str]
) -> Iterator[tuple[int, int, re.Match[str]]]:
    """Neighbouring subjects, first and second, with what `pattern` finds between them."""
    at = sorted((own[0].start, own[-1].end, number) for number, own in enumerate(subjects) if own)
    for (_, end, one), (start, _, other) in pairwise(at):
        between = text[end:start]
        match = pattern.search(between)
        if match and len(between) <= _LONGEST and not re.search(r"[,.;\n]", between):
            yield one, other, match
