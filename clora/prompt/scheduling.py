"""Prompt editing over the steps: `[a:b:0.5]`, `[a:10]`, `[a::0.5]`, `[a|b]`, as AUTOMATIC1111 1.10 reads it.

Its grammar (modules/prompt_parser.py, Lark/Earley) is parsed here in one pass with a stack, so that long and malformed
prompts take linear time. A text that the grammar rejects (a `|` outside brackets, a backslash at the end) is not
scheduled at all, as in AUTOMATIC1111. If a stray bracket or colon directly follows a schedule (`[a:b:0.5])`), the
grammar is ambiguous, and AUTOMATIC1111's reading depends on the hash seed of its process; here it is always a
schedule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from .text import ResolvedText, Span

_PIECE = re.compile(r"\\.|[^\\\[\]():|]+|[\[\]():|]")
_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")


@dataclass(frozen=True)
class _Group:
    """A bracket whose content depends on the step; or emphasis (`when` empty, one part with its brackets)."""

    parts: tuple[tuple[_Node, ...], ...]
    when: str = ""


_Node: TypeAlias = "Span | _Group"


@dataclass
class _Frame:
    """A bracket that is still open."""

    opener: Span
    bracket: str
    nodes: list[_Node] = field(default_factory=list)
    separators: list[int] = field(default_factory=list)
    colons: int = 0
    pipes: int = 0

    def parts(self) -> list[tuple[_Node, ...]]:
        bounds = [-1, *self.separators, len(self.nodes)]
        return [tuple(self.nodes[a + 1 : b]) for a, b in pairwise(bounds)]


class _NotScheduledError(Exception):
    """The grammar rejects the whole text."""


def schedule(text: str, steps: int, *, base_steps: int | None = None) -> tuple[tuple[int, ResolvedText], ...]:
    """The texts of the steps, as (last step, counted from 1; text). The last entry ends at `steps`.

    A boundary with a decimal point is a fraction of the steps, one without is a step. For a hires pass, `steps` are its
    own steps and `base_steps` those of the first pass: fractions then run from 1 to 2, and steps start after
    `base_steps`. Never raises.
    Source: get_learned_conditioning_prompt_schedules in AUTOMATIC1111 1.10.1.
    """
    try:
        nodes = _parse(text)
    except _NotScheduledError:
        return ((steps, ResolvedText.whole(text)),)
    ends = sorted({steps, *_boundaries(nodes, steps, base_steps)})
    return tuple((end, _resolve(text, nodes, end, steps, base_steps)) for end in ends)


def _parse(text: str) -> list[_Node]:
    root: list[_Node] = []
    stack: list[_Frame] = []
    position = 0
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None:
            raise _NotScheduledError
        piece, span = match.group(), Span(*match.span())
        position = span.end
        if piece in ("(", "["):
            stack.append(_Frame(span, piece))
        elif piece in (")", "]"):
            _close(text, root, stack, span, piece)
        elif piece in (":", "|"):
            _separate(root, stack, span, piece)
        else:
            (stack[-1].nodes if stack else root).append(span)
    _give_up(root, stack)
    return root


def _separate(root: list[_Node], stack: list[_Frame], span: Span, piece: str) -> None:
    if not stack:
        if piece == "|":
            raise _NotScheduledError
        root.append(span)
        return
    frame = stack[-1]
    if piece == "|" and frame.bracket == "(":
        raise _NotScheduledError
    frame.separators.append(len(frame.nodes))
    frame.nodes.append(span)
    frame.colons += piece == ":"
    frame.pipes += piece == "|"


def _close(text: str, root: list[_Node], stack: list[_Frame], span: Span, piece: str) -> None:
    frame = stack[-1] if stack else None
    group = None
    if frame is not None and (frame.bracket == "(") == (piece == ")"):
        group = _group(text, frame, span)
    if frame is None or group is None:
        # An unmatched bracket is plain text, and so is every bracket around it.
        _give_up(root, stack)
        root.append(span)
        return
    stack.pop()
    (stack[-1].nodes if stack else root).append(group)


def _group(text: str, frame: _Frame, closer: Span) -> _Group | None:
    if frame.bracket == "[" and frame.pipes and not frame.colons:
        return _Group(tuple(frame.parts()), "|")
    if frame.pipes:
        return None
    if not frame.colons or (frame.bracket == "(" and frame.colons == 1):
        return _Group(((frame.opener, *frame.nodes, closer),))
    if frame.bracket == "(" or frame.colons > 2:
        return None
    parts = frame.parts()
    number = None
    if all(isinstance(node, Span) for node in parts[-1]):
        separator = frame.nodes[frame.separators[-1]]
        assert isinstance(separator, Span)
        number = _NUMBER.fullmatch(text, separator.end, closer.start)
    if number is None:
        return None
    before = parts[0] if frame.colons == 2 else ()
    return _Group((before, parts[-2]), number.group(1))


def _give_up(root: list[_Node], stack: list[_Frame]) -> None:
    """Turn all open brackets into plain text."""
    for frame in stack:
        if frame.pipes:
            raise _NotScheduledError
        root.append(frame.opener)
        root.extend(frame.nodes)
    stack.clear()


def _step_of(when: str, steps: int, base_steps: int | None) -> int:
    """The last step before the boundary (below 1: the part before it is never used)."""
    value = float(when)
    if "." in when:
        value = (value - (0.0 if base_steps is None else 1.0)) * steps
    else:
        value -= base_steps or 0
    return int(max(-1.0, min(float(steps), value)))


def _boundaries(nodes: list[_Node], steps: int, base_steps: int | None) -> Iterator[int]:
    waiting: list[_Node] = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Span):
            continue
        if node.when == "|":
            yield from range(1, steps + 1)
        elif node.when:
            step = _step_of(node.when, steps, base_steps)
            if step >= 1:
                yield step
        for part in node.parts:
            waiting.extend(part)


def _resolve(text: str, nodes: list[_Node], step: int, steps: int, base_steps: int | None) -> ResolvedText:
    offsets: list[int] = []
    iterators: list[Iterator[_Node]] = [iter(nodes)]
    while iterators:
        node = next(iterators[-1], None)
        if node is None:
            iterators.pop()
        elif isinstance(node, Span):
            offsets.extend(range(*node))
        elif node.when == "|":
            iterators.append(iter(node.parts[(step - 1) % len(node.parts)]))
        elif node.when:
            after = step > _step_of(node.when, steps, base_steps)
            iterators.append(iter(node.parts[int(after)]))
        else:
            iterators.append(iter(node.parts[0]))
    return ResolvedText("".join(text[i] for i in offsets), tuple(offsets))
