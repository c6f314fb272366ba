"""The parts of a tag between its colons, and its named arguments."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from ..errors import CLoRAError, cut

OWN_ARGUMENTS = ("te", "unet", "dyn", "words", "nth", "trigger", "role", "place", "say")
WORDS_ARGUMENTS = ("words", "nth", "trigger", "place", "say")
"""Those that a subject without a LoRA has too."""
_BRACKET = re.compile(r"\\.|[()\[\]]")
_PAIRS = {")": "(", "]": "["}
_LONGEST_VALUE = 2000
"""Characters of a value with brackets; CLIP reads about 300 for each chunk of 75 tokens."""
_SAY = re.compile(r"\s*say\s*=")


def split_items(inside: str) -> list[str]:
    """The parts of a tag. Colons separate them, except inside brackets of say=, where they are part of a weight or a
    schedule: `say=(red scarf:1.2)`.
    """
    items: list[str] = []
    rest = inside.split(":")
    at = 0
    while at < len(rest):
        count = _joined(rest, at) if is_own_words(rest[at]) else 1
        items.append(":".join(rest[at : at + count]))
        at += count
    return items


def is_own_words(item: str) -> bool:
    """Whether a part of a tag is its `say=`."""
    return _SAY.match(item) is not None


def _joined(parts: Sequence[str], first: int) -> int:
    """How many parts the value that begins in part `first` has: until its brackets are closed, 1 if they never are."""
    is_open: list[str] = []
    length = 0
    for count, part in enumerate(parts[first:], start=1):
        length += len(part) + 1
        if length > _LONGEST_VALUE or not _closes(part, is_open):
            return 1
        if not is_open:
            return count
    return 1


def _closes(text: str, is_open: list[str]) -> bool:
    """Whether the closing brackets of a text match those that are open, which it changes; escaped ones are letters."""
    for match in _BRACKET.finditer(text):
        bracket = match.group()
        if bracket in _PAIRS:
            if not is_open or is_open.pop() != _PAIRS[bracket]:
                return False
        elif bracket in "([":
            is_open.append(bracket)
    return True


def brackets_match(text: str) -> bool:
    """Whether every bracket of a text is closed."""
    is_open: list[str] = []
    return _closes(text, is_open) and not is_open


def without_brackets(text: str) -> str:
    """The text without its brackets; escaped ones stay."""
    return _BRACKET.sub(lambda match: match.group() if len(match.group()) > 1 else "", text)


def named_arguments(items: Sequence[str], where: str) -> dict[str, str]:
    """The named arguments of a tag by name, those of other extensions too; `where` is the tag, for messages.

    Raises: CLoRAError for a misspelled argument, and for one that is given twice.
    """
    named: dict[str, str] = {}
    for item in items:
        key, _, value = item.partition("=")
        key = key.strip()
        if key not in OWN_ARGUMENTS:
            close = difflib.get_close_matches(key[:20].lower(), OWN_ARGUMENTS, n=1, cutoff=0.75)
            if close:
                raise CLoRAError(f'Unknown argument "{cut(key)}=" in {where}: write {close[0]}= instead.')
        elif key in named:
            raise CLoRAError(f"{key}= is given twice in {where}: remove one of them.")
        named[key] = value
    return named
