"""Which characters each token of a CLIP-style tokenizer stands for, found by calling only the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from ..errors import CLoRAError
from .text import Span

Tokenize = Callable[[str], Sequence[int]]
"""Text -> token ids, without begin and end tokens."""

_WORD = re.compile(r"\S+")
# CLIP's own split of a word: contractions, letters, single digits, anything else.
_PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+", re.IGNORECASE)
_LONGEST = 128
"""Pieces with more possible cuts than this stay whole, because each cut costs a call of the tokenizer."""
_MOST_ENDINGS = 40_000
"""Characters of the endings of one prompt that are given to the tokenizer, about a second's work. Pieces after them
stay whole."""
_MOST_WORK = 900_000.0
"""About a second's work of CLIP's tokenizer, whose time for a piece of n bytes grows like n^1.6 (measured)."""
LONGEST_TEXT = 12_000
"""Characters of a prompt without its LoRA tags that CLoRA reads; 40 chunks of tokens have about as many."""
LONGEST_PROMPT = 50_000
"""Characters of a prompt with its tags."""


def check_length(text: str) -> None:
    """Raises: CLoRAError for a text that would take a tokenizer longer than about a second."""
    if len(text) > LONGEST_TEXT:
        raise too_long(len(text), LONGEST_TEXT)
    pieces = {match.group() for match in _PIECE.finditer(text)}
    if sum(len(piece.encode("utf-8", "replace")) ** 1.6 for piece in pieces) > _MOST_WORK:
        longest = max(pieces, key=len)
        raise CLoRAError(
            f'The prompt takes too long to read, with {len(longest)} characters without a space ("{longest[:20]}..."): '
            "shorten it, or put spaces or commas between the words."
        )


def too_long(length: int, most: int) -> CLoRAError:
    """The error for a prompt of more characters than CLoRA reads."""
    return CLoRAError(
        f"The prompt has {length} characters, and CLoRA reads at most {most}: shorten it, or turn CLoRA off."
    )


class TokenRanges:
    """Token ids and their character ranges, with a cache per word."""

    def __init__(self, tokenize: Tokenize) -> None:
        self._tokenize = tokenize
        self._ids: dict[str, tuple[int, ...]] = {}
        self._words: dict[str, list[Span]] = {}
        self._endings_left = _MOST_ENDINGS

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

    def _affordable(self, characters: int) -> bool:
        if characters > self._endings_left:
            return False
        self._endings_left -= characters
        return True

    def _by_endings(self, text: str, ids: Sequence[int], starts: Sequence[int]) -> list[Span]:
        """Cut the text wherever the tokens of the rest equal the last tokens of the whole.

        Byte-pair merges on the two sides of such a cut are independent, so the cuts are exactly where no token
        crosses.
        """
        if len(ids) < 2 or len(starts) > _LONGEST or not self._affordable(len(text) * len(starts) // 2):
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
