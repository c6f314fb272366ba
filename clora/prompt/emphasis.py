"""Attention syntax: `(a)`, `(a:1.2)`, `[a]`, escapes and BREAK, with AUTOMATIC1111's meaning.

Source: parse_prompt_attention in AUTOMATIC1111 1.10.1 (modules/prompt_parser.py). Weights are multiplied in
the same order, so that segments are joined (and words tokenised together) exactly as there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .text import ResolvedText, Span

_PIECE = re.compile(r"\\[()\[\]\\]|\\|[(\[]|:([+-]?[.\d]+)\)|[)\]]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\bBREAK\b")
_ROUND = 1.1
_SQUARE = 1 / 1.1
_DEEPEST = 100
"""Brackets nested deeper than this do not change the weight (1.1^100 is 13781), which keeps the time linear."""


@dataclass(frozen=True)
class Segment:
    """A piece of prompt text with one weight; `offsets` are the source offsets of its characters."""

    text: str
    weight: float
    offsets: tuple[int, ...]

    @property
    def is_break(self) -> bool:
        """True for the word BREAK, which ends the chunk of tokens."""
        return self.text == "BREAK" and self.weight == -1


class _Builder:
    def __init__(self, resolved: ResolvedText) -> None:
        self.resolved = resolved
        self.texts: list[str] = []
        self.weights: list[float] = []
        self.offsets: list[tuple[int, ...]] = []
        self.open: dict[str, list[int | None]] = {"(": [], "[": []}

    def add(self, start: int, end: int, weight: float = 1.0) -> None:
        self.texts.append(self.resolved.text[start:end])
        self.weights.append(weight)
        self.offsets.append(self.resolved.offsets[start:end])

    def add_text(self, start: int, end: int) -> None:
        """Add plain text, split at the word BREAK and the white space around it."""
        text = self.resolved.text
        breaks = [Span(*match.span()) for match in _BREAK.finditer(text, start, end)]
        ends = [end if i == len(breaks) else breaks[i].start for i in range(len(breaks) + 1)]
        starts = [start, *(word.end for word in breaks)]
        for i, (first, last) in enumerate(zip(starts, ends, strict=True)):
            part = text[first:last]
            left = len(part) - len(part.lstrip()) if i else 0
            right = len(part.rstrip()) if i < len(breaks) else len(part)
            self.add(first + left, first + max(left, right))
            if i < len(breaks):
                self.add(*breaks[i], weight=-1.0)

    def open_bracket(self, bracket: str) -> None:
        stack = self.open[bracket]
        stack.append(len(self.texts) if len(stack) < _DEEPEST else None)

    def multiply(self, start: int | None, factor: float) -> None:
        if start is not None:
            for i in range(start, len(self.weights)):
                self.weights[i] *= factor

    def merged(self) -> tuple[Segment, ...]:
        """The segments, neighbours of equal weight joined."""
        segments: list[Segment] = []
        first = 0
        for i in range(1, len(self.weights) + 1):
            if i == len(self.weights) or self.weights[i] != self.weights[first]:
                offsets = tuple(offset for part in self.offsets[first:i] for offset in part)
                segments.append(Segment("".join(self.texts[first:i]), self.weights[first], offsets))
                first = i
        return tuple(segments) or (Segment("", 1.0, ()),)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:  # "(a:1.2.3)" matches the regex but is not a number
        return None


def parse_attention(resolved: ResolvedText | str) -> tuple[Segment, ...]:
    """The text as segments with weights: 1.1 per ( ), 1 / 1.1 per [ ], the number in (x:1.2).

    Never raises.
    """
    if isinstance(resolved, str):
        resolved = ResolvedText.whole(resolved)
    builder = _Builder(resolved)
    for match in _PIECE.finditer(resolved.text):
        piece, weight = match.group(), _number(match.group(1))
        if piece.startswith("\\"):
            builder.add(match.start() + 1, match.end())
        elif piece in ("(", "["):
            builder.open_bracket(piece)
        elif weight is not None and builder.open["("]:
            builder.multiply(builder.open["("].pop(), weight)
        elif piece == ")" and builder.open["("]:
            builder.multiply(builder.open["("].pop(), _ROUND)
        elif piece == "]" and builder.open["["]:
            builder.multiply(builder.open["["].pop(), _SQUARE)
        else:
            builder.add_text(match.start(), match.end())
    for start in builder.open["("]:
        builder.multiply(start, _ROUND)
    for start in builder.open["["]:
        builder.multiply(start, _SQUARE)
    return builder.merged()
