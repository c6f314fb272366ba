"""Parts of LoRA names, and where they or other phrases stand in a prompt, whatever way they are written."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

from .role_words import NO_PARTS
from .text import ResolvedText, Span, in_one_word

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")
_RUN = re.compile(r"[^\W_]+")
_WEIGHT = re.compile(r":[+-]?[\d.]+(?=\s*[)\]])")
_VERSION = re.compile(r"v?\d+(?:\.\d+)*[a-z]?|[ve]\d*|\d+|\d*steps?|sd\w*xl|epoch\d+")
_TOKEN = re.compile(r"[^\W_]+")
_BETWEEN = re.compile(r"(?:[\s_\-'.()\[\]\\]|:[+-]?[\d.]+(?=[)\]]))*")
_LONGEST = 6
_MOST = 8  # of the first and of the last places of a phrase
_BRACKET = re.compile(r"[\s_]*\\\([^()\\,]*\\\)")
_REST_OF_BRACKET = re.compile(r"[^()\\,]*\\\)")
_ITEM_END = re.compile(
    r"[,\uff0c\u3001\u3002;\n\r|]|\bBREAK\b|\bADD(?:COL|ROW|COMM|BASE)\b|\bAND(?:_[A-Z]+)?\b|\.(?!\w)"
)


def base_name(name: str) -> str:
    """The name without folders and the ending of the file."""
    return re.split(r"[/\\]", name)[-1].removesuffix(".safetensors")


def raw_parts(name: str) -> tuple[str, ...]:
    """All parts of a name in lower case, split at signs only: "dmd2_sdxl_4step" has "dmd2", "sdxl" and "4step"."""
    return tuple(match.group().casefold() for match in _RUN.finditer(base_name(name)))


def name_parts(name: str) -> tuple[str, ...]:
    """The parts of a name in lower case, split at signs and camel case, without versions, formats and models."""
    parts: list[str] = []
    for run in _RUN.findall(base_name(name)):
        if _VERSION.fullmatch(run.casefold()) or run.casefold() in NO_PARTS:
            continue
        if re.search(r"[a-z]\d[a-z]|^\d+[a-z]", run):  # a trigger such as "j0hnx"
            parts.append(run.casefold())
            continue
        split = [part.casefold() for part in _PART.findall(run)]
        parts += [part for part in split if part not in NO_PARTS and not _VERSION.fullmatch(part)]
    return tuple(parts)


def compact(phrase: str) -> str:
    """A phrase without the signs between its words: "Miku_(Vocaloid)" as "mikuvocaloid"."""
    return "".join(_TOKEN.findall(phrase)).casefold()


class Window(NamedTuple):
    """Words of a text that stand next to each other: characters [start, end) of the text, in the item number `item`."""

    start: int
    end: int
    item: int


def first_and_last(windows: list[Window]) -> list[Window]:
    """At most `_MOST` places of a phrase from the front, and as many from the end."""
    return windows[:_MOST] + windows[_MOST:][-_MOST:]


class PromptWords:
    """The words of a prompt's text, to be found however they are joined.

    `items` are its parts between commas and the like, and between the source offsets `cuts` (where tags were).
    """

    def __init__(self, base: ResolvedText, cuts: Sequence[int] = ()) -> None:
        self.base = base
        text = base.text
        ends = [match.span() for match in _ITEM_END.finditer(text)]
        ends = sorted([*ends, *((at, at) for at in {self.before(cut) for cut in cuts})])
        starts = [0, *(end for _, end in ends)]
        self.items = [Span(a, b) for a, b in zip(starts, [*(start for start, _ in ends), len(text)], strict=True)]

    @cached_property
    def tokens(self) -> list[tuple[Span, int]]:
        """Every word's span and the number of its item; the numbers of attention weights are no words."""
        text = _WEIGHT.sub(lambda match: " " * len(match.group()), self.base.text)
        return [
            (Span(match.start() + item.start, match.end() + item.start), number)
            for number, item in enumerate(self.items)
            for match in _TOKEN.finditer(text[item.start : item.end])
        ]

    def tokens_of(self, item: int) -> list[Span]:
        """The words of an item."""
        return self._tokens_of[item]

    @cached_property
    def _tokens_of(self) -> dict[int, list[Span]]:
        found: dict[int, list[Span]] = {}
        for span, number in self.tokens:
            found.setdefault(number, []).append(span)
        return found

    @cached_property
    def _windows(self) -> dict[str, list[Window]]:
        found: dict[str, list[Window]] = {}
        for first in range(len(self.tokens)):
            for key, window in self._from(first):
                found.setdefault(key, []).append(window)
        return found

    def _from(self, first: int) -> Iterator[tuple[str, Window]]:
        text, (start, item) = self.base.text, self.tokens[first]
        key = text[start.start : start.end].casefold()
        yield key, Window(start.start, start.end, item)
        following = self.tokens[first : first + _LONGEST]
        for (left, _), (right, number) in pairwise(following):
            if number != item or not _BETWEEN.fullmatch(text, left.end, right.start):
                return
            key += text[right.start : right.end].casefold()
            yield key, Window(start.start, right.end, item)

    def find(self, phrase: str) -> list[Window]:
        """Where a phrase stands, whatever signs join its words. The plural of a single word counts too."""
        key = compact(phrase)
        if not key:
            return []
        found = self._windows.get(key)
        if found is None and len(key) > 2 and key.isalpha():
            found = self._windows.get(key[:-1] if key.endswith("s") else key + "s")
        return first_and_last(found or [])

    def runs_of(self, parts: Sequence[str]) -> Iterator[tuple[tuple[str, ...], list[Window]]]:
        """The runs of a name's parts that stand in the text, the longest first, two parts in either order."""
        parts = parts[:12]
        for length in range(len(parts), 0, -1):
            for first in range(len(parts) - length + 1):
                run = tuple(parts[first : first + length])
                windows = self.find("".join(run)) or (self.find("".join(reversed(run))) if length == 2 else [])
                if windows:
                    yield run, windows

    def whole(self, window: Window) -> Window:
        """The window with what is joined to its words by signs: "miku" of "miku_hatsune", and an escaped bracket."""
        text, (start, end, item) = self.base.text, window
        bounds = self.items[item]
        while start > bounds.start and in_one_word(text[start - 1], text[start]):
            start -= 1
        while end < bounds.end and in_one_word(text[end - 1], text[end]):
            end += 1
        inside = text[start:end].count("\\(") > text[start:end].count("\\)")
        bracket = (_REST_OF_BRACKET if inside else _BRACKET).match(text, end, bounds.end)
        return Window(start, bracket.end() if bracket else end, item)

    def words(self, window: Window) -> str:
        """The words of a window as they are written, without attention syntax."""
        text = self.base.text[window.start : window.end]
        plain = re.sub(r"(?<!\\)[()\[\]]|:[+-]?[\d.]+(?=[)\]])", " ", text)
        return " ".join(plain.split())

    def before(self, offset: int) -> int:
        """The index in the text of the first character whose source offset is not before `offset`."""
        return bisect_left(self._offsets, offset)

    @cached_property
    def _offsets(self) -> list[int]:
        """The source offsets, those of inserted spaces like the character before them, so that they ascend."""
        return list(accumulate(self.base.offsets, max))
