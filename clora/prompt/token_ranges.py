"""Which characters each token of a CLIP-style tokenizer stands for, found by calling only the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from .text import Span

Tokenize = Callable[[str], Sequence[int]]
"""Text -> token ids, without begin and end tokens."""

_WORD = re.compile(r"\S+")
# CLIP's own split of a word: contractions, letters, single digits, anything else.
_PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+", re.IGNORECASE)
_LONGEST = 128
"""Pieces with more possible cuts than this stay whole, because each cut costs a call of the tokenizer."""


class TokenRanges:
    """Token ids and their character ranges, with a cache per word."""

    def __init__(self, tokenize: Tokenize) -> None:
        self._tokenize = tokenize
        self._ids: dict[str, tuple[int, ...]] = {}
        self._words: dict[str, list[Span]] = {}

    def ids(self, text: str) -> tuple[int, ...]:
        """The ids of the text."""
        if text not in self._ids:
            self._ids[text] = tuple(int(i) for i in self._tokenize(text))
        return self._ids[text]

    def locate(self, text: str) -> tuple[tuple[int, ...], list[Span]]:
        """The ids of the text, and for each id its range of characters.

        Tokens that share a character share a range.
        """
        ids = self.ids(text)
        words = [Span(*match.span()) for match in _WORD.finditer(text)]
        joined: list[int] = []
        ranges: list[Span] = []
        for word in words:
            inside = text[word.start : word.end]
            joined.extend(self.ids(inside))
            ranges.extend(Span(word.start + a, word.start + b) for a, b in self._in_word(inside))
        if tuple(joined[: len(ids)]) == ids:  # a tokenizer may cut long texts
            return ids, ranges[: len(ids)]
        return ids, self._by_endings(text, ids, [word.start for word in words])

    def _in_word(self, word: str) -> list[Span]:
        if word not in self._words:
            self._words[word] = self._cut_word(word)
        return self._words[word]

    def _cut_word(self, word: str) -> list[Span]:
        ids = self.ids(word)
        if len(ids) < 2:
            return [Span(0, len(word))] * len(ids)
        pieces = [Span(*match.span()) for match in _PIECE.finditer(word)]
        joined = [i for piece in pieces for i in self.ids(word[piece.start : piece.end])]
        if len(pieces) < 2 or tuple(joined) != ids:
            return self._by_endings(word, ids, range(len(word)))
        ranges: list[Span] = []
        for piece in pieces:
            inside = word[piece.start : piece.end]
            cuts = self._by_endings(inside, self.ids(inside), range(len(inside)))
            ranges.extend(Span(piece.start + a, piece.start + b) for a, b in cuts)
        return ranges

    def _by_endings(self, text: str, ids: Sequence[int], starts: Sequence[int]) -> list[Span]:
        """Cut the text wherever the tokens of the rest equal the last tokens of the whole.

        Byte-pair merges on the two sides of such a cut are independent, so the cuts are exactly where no token
        crosses.
        """
        if len(ids) < 2 or len(starts) > _LONGEST:
            return [Span(0, len(text))] * len(ids)
        cuts = [(0, 0)]
        for start in starts:
            ending = self.ids(text[start:])
            first = len(ids) - len(ending)
            if first > cuts[-1][0] and ending and tuple(ids[first:]) == ending:
                cuts.append((first, start))
        cuts.append((len(ids), len(text)))
        ranges: list[Span] = []
        for (first, start), (last, end) in pairwise(cuts):
            ranges.extend([Span(start, end)] * (last - first))
        return ranges
