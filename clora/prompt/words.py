"""Find a subject's words in a prompt. All offsets count the characters of the source prompt, including tags."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .role_words import NO_VERBS, OBJECT_VERBS, PICTURES, PREPOSITIONS, REGIONS, VERBS
from .text import INSERTED, ResolvedText, Span, in_one_word

Offsets = tuple[int, ...]
"""Ascending offsets of one occurrence's characters in the source prompt."""

_AFTER_NOUN = frozenset({"by", "from", "inside", "outside", "against", "into", "onto", "during", "without", "through"})
_ATTENTION = r"(?:[\s()\[\]]|:[+-]?[\d.]+(?=[)\]]))"
ARTICLES = frozenset({"a", "an", "the"})
JOINING = frozenset(
    {"and", "with", "in", "on", "at", "beside", "holding", "near", "under", "behind", "above", "below", "between"}
    | {"vs", "versus"}
)
_MOST_WORDS = 60
"""A longer text after a tag is cut: no encoder's chunk has more tokens than 75."""
_FOREIGN_JOINING = frozenset({"und", "mit", "im", "et", "avec"})
"""Of prompts in German and French. In lower case only: "ET" and "MIT" are names."""
_FOLLOWING = re.compile(
    r"""(?P<weight>:\s*[+-]?[\d.]+\s*(?=[)\]]))
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<other>[:|])
    | (?P<stop>[,\uff0c\u3001\u3002;\n\r]|\.(?!\w))
    | (?P<word>(?:\\\([^()\\,<>\n]{0,60}\\\)|\\.|[^\s()\[\]:|,\uff0c\u3001\u3002;.\\]|\.(?=\w)|\\)+)
    """,
    re.X,
)
_TO = re.compile(r"\s+to\b", re.IGNORECASE)
_SYNTAX_WORD = re.compile(r"BREAK|AND(?:_[A-Z]+)?")
_NEXT_WORD = re.compile(r"[\s()\[\]]*([^\W\d_]+)")


def split_occurrence(words: str) -> tuple[str, int | None]:
    """Split "cat#2" into ("cat", 2), and "cat" into ("cat", None)."""
    text, mark, number = words.rpartition("#")
    if mark and text.strip() and number.isdecimal() and len(number) < 7 and int(number) > 0:
        return text.strip(), int(number)
    return words.strip(), None


def same_words(words: str) -> str:
    """The words in the form used for comparing: case and amount of white space are ignored."""
    return " ".join(words.casefold().split())


def find_words(base: ResolvedText, words: str) -> list[Offsets]:
    """Every occurrence of the words in the text, as whole words; attention syntax between them is allowed."""
    parts = words.split()
    if not parts:
        return []
    pattern = re.compile(f"{_ATTENTION}+".join(f"({re.escape(part)})" for part in parts), re.IGNORECASE)
    occurrences: list[Offsets] = []
    position = 0
    while (match := pattern.search(base.text, position)) is not None:
        if _whole_words(base.text, match):
            occurrences.append(_offsets(base, [Span(*match.span(i + 1)) for i in range(len(parts))]))
            position = match.end()
        else:
            position = match.start() + 1
    return occurrences


def _whole_words(text: str, match: re.Match[str]) -> bool:
    start, end = match.span()
    joined_left = start > 0 and in_one_word(text[start - 1], text[start])
    return not joined_left and not (end < len(text) and in_one_word(text[end - 1], text[end]))


def _offsets(base: ResolvedText, words: Sequence[Span]) -> Offsets:
    """The offsets of the words and of the white space between them, without attention syntax."""
    positions: list[int] = []
    for i, word in enumerate(words):
        if i and not base.text[words[i - 1].end : word.start].strip():
            positions.extend(range(words[i - 1].end, word.start))
        positions.extend(range(*word))
    return tuple(base.offsets[p] for p in positions if base.offsets[p] != INSERTED)


def following_words(prompt: str, start: int, end: int) -> tuple[str, Offsets]:
    """The subject words that follow a tag: the text from `start` to `end` (the next tag) or to an earlier stop.

    Stops are comma, full stop, semicolon, line break, BREAK, AND, ADDCOL and the like, a joining word, a verb form
    ("stands", "sitting on"), and a colon that is not part of a weight. Articles and attention syntax are left out. If
    a schedule (`[a:b:0.5]`) follows the tag, all its alternatives belong to the words.
    """
    found: list[re.Match[str]] = []
    depth = 0
    position = start
    while position < end:
        match = _FOLLOWING.match(prompt, position, end)
        if match is None:  # white space
            position += 1
            continue
        position = match.end()
        kind = match.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind == "stop" or (kind == "other" and depth == 0):
            break
        elif kind == "word":
            if _stops(prompt, match, end) or _is_verb(prompt, match, end, first=not found):
                break
            if len(found) == _MOST_WORDS:
                break
            if match.group().casefold() not in ARTICLES:
                found.append(match)
    found = found[_lead_in([word.group().casefold() for word in found]) :]
    positions: list[int] = []
    for i, word in enumerate(found):
        if i and not prompt[found[i - 1].end() : word.start()].strip():
            positions.extend(range(found[i - 1].end(), word.start()))
        positions.extend(range(*word.span()))
    return " ".join(word.group() for word in found), tuple(positions)


def _lead_in(words: Sequence[str]) -> int:
    """The number of words at the front that name a picture, not its subject: "close-up photo of"."""
    of = words.index("of") if "of" in words[:4] else 0
    return of + 1 if of and words[of - 1] in PICTURES and len(words) > of + 1 else 0


def _stops(prompt: str, match: re.Match[str], end: int) -> bool:
    word = match.group()
    if _SYNTAX_WORD.fullmatch(word) or word in REGIONS | _FOREIGN_JOINING or word.casefold() in JOINING:
        return True
    return word.casefold() == "next" and _TO.match(prompt, match.end(), end) is not None


def _is_verb(prompt: str, match: re.Match[str], end: int, *, first: bool) -> bool:
    """Whether the subject ends before this word: "stands", "parked beside", or "sitting" before a preposition."""
    word = match.group().casefold()
    if word in VERBS or (word in _AFTER_NOUN and not first):
        return True
    if word.endswith("ed") and len(word) > 4 and word not in NO_VERBS and not first:  # "old wounded knight" goes on
        following = _NEXT_WORD.match(prompt, match.end(), end)
        return following is not None and following.group(1).casefold() in PREPOSITIONS - {"and", "or"}
    if not word.endswith("ing") or len(word) < 5 or word in NO_VERBS:
        return False
    following = _NEXT_WORD.match(prompt, match.end(), end)
    if first:  # "sitting cat" is a subject, "sitting on a chair" is not.
        return following is not None and following.group(1).casefold() in PREPOSITIONS
    return word in OBJECT_VERBS or following is None or following.group(1).casefold() in PREPOSITIONS


def has_words(text: str) -> bool:
    """False if the text holds only white space and attention syntax."""
    return re.sub(_ATTENTION, "", text) != ""
