"""Remove tags from a prompt and insert trigger words, without changing the rest of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .text import INSERTED, ResolvedText, Span, in_one_word

_SPACES = " \t"
_COMMAS = ",\uff0c\u3001"  # the latter two are the full-width comma and the enumeration comma
_NO_SPACE_BEFORE = ",.;:!?)]|\uff0c\u3001\u3002"
_NO_SPACE_AFTER = "([|"


@dataclass(frozen=True)
class Edit:
    """A piece of the prompt to remove, or to replace by `words` if they are not empty."""

    span: Span
    words: str = ""


@dataclass(frozen=True)
class Rendered:
    """The edited prompt, and for each edit the span of its inserted words (None if nothing was inserted)."""

    resolved: ResolvedText
    inserted: tuple[Span | None, ...]


@dataclass
class _Output:
    """The text so far, as (character, source offset)."""

    characters: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def keep(self, source: str, start: int, end: int) -> None:
        self.characters.extend(source[start:end])
        self.offsets.extend(range(start, end))

    def insert(self, text: str) -> None:
        self.characters.extend(text)
        self.offsets.extend([INSERTED] * len(text))

    def last(self) -> str:
        return self.characters[-1] if self.characters else ""

    def drop_spaces(self) -> None:
        while self.last() and self.last() in _SPACES:
            self.drop()

    def drop(self) -> None:
        self.characters.pop()
        self.offsets.pop()

    def last_visible(self) -> str:
        return next((c for c in reversed(self.characters) if c not in _SPACES), "")


def render(source: str, edits: Sequence[Edit]) -> Rendered:
    """Apply the edits, given in the order of the text, to the source.

    Around a removed piece, one of two spaces is removed, the space before a comma, and the comma of an item that has
    become empty ("a, <tag>, b" becomes "a, b"). Two words stay separated. All other text is unchanged.
    """
    output = _Output()
    inserted: list[Span | None] = []
    position = 0
    for i, edit in enumerate(edits):
        output.keep(source, position, edit.span.start)
        if edit.words:
            inserted.append(_insert(output, source, edit, edits[i + 1 :]))
            position = edit.span.end
        else:
            inserted.append(None)
            position = _remove(output, source, edit.span.end, _starts_edit(edits, i + 1))
    output.keep(source, position, len(source))
    return Rendered(ResolvedText("".join(output.characters), tuple(output.offsets)), tuple(inserted))


def _starts_edit(edits: Sequence[Edit], i: int) -> int:
    return edits[i].span.start if i < len(edits) else -1


def _insert(output: _Output, source: str, edit: Edit, later: Sequence[Edit]) -> Span:
    apart = output.last() and not output.last().isspace() and output.last() not in _NO_SPACE_AFTER
    if apart and edit.words[0] not in _NO_SPACE_BEFORE:
        output.insert(" ")
    start = len(output.characters)
    output.insert(edit.words)
    end = edit.span.end
    for following in later:
        if following.span.start != end or following.words:
            break
        end = following.span.end
    right = source[end : end + 1]
    if right and not right.isspace() and right not in _NO_SPACE_BEFORE:
        output.insert(" ")
    return Span(start, start + len(edit.words))


def _remove(output: _Output, source: str, end: int, next_edit: int) -> int:
    """Clean up around a removed piece that ended at `end`; return where the source continues."""
    after = _skip_spaces(source, end)
    right = source[after : after + 1]
    if after == next_edit:
        right = "<"  # another edit follows, which handles the text to its right
    before = output.last_visible()
    after_comma = bool(before) and before in _COMMAS
    if right and right in _COMMAS and after_comma:
        output.drop_spaces()
        return after + 1
    if right and right in _COMMAS and (not before or before == "\n"):
        return _skip_spaces(source, after + 1)
    if after_comma and not right:
        output.drop_spaces()
        output.drop()
        return after
    if not right or right in _NO_SPACE_BEFORE or right == "\n":
        output.drop_spaces()
        return after
    left = output.last()
    if not left or left.isspace() or left in _NO_SPACE_AFTER:
        return after
    if after == end and right != "<" and (in_one_word(left, right) or left == "\\"):
        output.insert(" ")
    return end


def _skip_spaces(source: str, position: int) -> int:
    while position < len(source) and source[position] in _SPACES:
        position += 1
    return position
