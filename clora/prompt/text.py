"""Text that knows the source offset of each of its characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

INSERTED = -1
"""Offset of a character that is not in the source text (of a trigger word, or a space beside it)."""


class Span(NamedTuple):
    """Half-open range [start, end) of characters in a text."""

    start: int
    end: int


@dataclass(frozen=True)
class ResolvedText:
    """A text made from a source text by removing, choosing or inserting parts.

    `offsets[i]` is the offset of `text[i]` in the source, or `INSERTED`.
    """

    text: str
    offsets: tuple[int, ...]

    @classmethod
    def whole(cls, text: str) -> ResolvedText:
        """The source text itself."""
        return cls(text, tuple(range(len(text))))

    def __str__(self) -> str:
        return self.text

    def spans_of(self, source: Iterable[int]) -> tuple[Span, ...]:
        """The spans of the given source characters in this text: one per run, joined across white space."""
        found = runs(sorted(self._index_of[offset] for offset in set(source) if offset in self._index_of))
        joined: list[Span] = []
        for span in found:
            trimmed = _trim(self.text, span)
            if trimmed is None:
                continue
            if joined and not self.text[joined[-1].end : trimmed.start].strip():
                trimmed = Span(joined.pop().start, trimmed.end)
            joined.append(trimmed)
        return tuple(joined)

    @cached_property
    def _index_of(self) -> dict[int, int]:
        """Offset in the source -> index in this text."""
        return {offset: i for i, offset in enumerate(self.offsets) if offset != INSERTED}


def runs(indices: Sequence[int]) -> tuple[Span, ...]:
    """The maximal runs of consecutive numbers in an ascending sequence."""
    if not indices:
        return ()
    cuts = [i for i in range(1, len(indices)) if indices[i] != indices[i - 1] + 1]
    return tuple(Span(indices[a], indices[b - 1] + 1) for a, b in pairwise((0, *cuts, len(indices))))


def _trim(text: str, span: Span) -> Span | None:
    """The span without white space at its ends; None if it holds only white space."""
    inside = text[span.start : span.end]
    stripped = inside.strip()
    if not stripped:
        return None
    start = span.start + len(inside) - len(inside.lstrip())
    return Span(start, start + len(stripped))


_UNSPACED_SCRIPTS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x9FFF),  # Han, kana, bopomofo
    (0xF900, 0xFAFF),  # Han compatibility
    (0xFF66, 0xFF9F),  # half-width kana
    (0x20000, 0x3FFFF),  # Han extensions
)


def in_one_word(left: str, right: str) -> bool:
    """True if two neighbouring characters belong to one word, in a script that puts spaces between words."""
    return _spaced_word_character(left) and _spaced_word_character(right)


def _spaced_word_character(character: str) -> bool:
    if not (character.isalnum() or character == "_"):
        return False
    code = ord(character)
    return not any(first <= code <= last for first, last in _UNSPACED_SCRIPTS)
