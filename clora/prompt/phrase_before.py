"""The phrase that names a subject in front of a tag: "a brown dog <tag>", "1girl with red hair <tag>"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .names import PromptWords, Window
from .role_words import CLASSES, VERBS
from .roles import is_attribute, is_count
from .text import Span
from .words import ARTICLES, JOINING

_HAS = frozenset({"with", "in", "wearing"})
_TAIL = 10  # words before a tag that may be its subject and what it has
_LONGEST = 4  # words of a subject


def phrase_before(words: PromptWords, at: int, several: bool) -> Window | None:
    """The phrase with a noun of subjects that ends directly before the character `at`, None without one.

    What the subject has or wears may stand between: "an old man in a coat <tag>". A count names a subject where the
    prompt asks for `several`. A comma may stand between inside brackets: "(red hair girl, <tag>, smile)".
    """
    text = words.base.text
    tail = [(span, item) for span, item in words.tokens if span.end <= at][-_TAIL:]
    spans = [span for span, item in tail if item == tail[-1][1]]
    if not spans:
        return None
    low = [text[slice(*span)].casefold() for span in spans]
    item, gap = tail[-1][1], text[spans[-1].end : at].strip()
    if gap.endswith(",") and len(spans) <= _LONGEST and _same_bracket(text, spans[0].start, at):
        return Window(spans[0].start, spans[-1].end, item) if low[-1] in CLASSES else None
    if gap.strip(" ()[]"):
        return None
    has = next((i for i in reversed(range(1, len(low))) if low[i] in _HAS), 0)
    if has and is_attribute(low[-1]):
        spans, low = spans[:has], low[:has]
    if is_count(low[-1]) and several:
        return Window(spans[-1].start, spans[-1].end, item)
    start = _after_article(spans[-_LONGEST:], low[-_LONGEST:]) if low[-1] in CLASSES else None
    return Window(start, spans[-1].end, item) if start is not None else None


def _after_article(spans: Sequence[Span], low: Sequence[str]) -> int | None:
    """Where the words after an article begin, if no other phrase begins between them and the end."""
    for i in reversed(range(len(low))):
        if low[i] in JOINING or low[i] in VERBS:
            return None
        if low[i] in ARTICLES:
            return spans[i + 1].start if i + 1 < len(low) else None
    return None


def _same_bracket(text: str, start: int, end: int) -> bool:
    """Whether a bracket opens directly before `start` and is still open at `end`: "(red hair girl, <tag>, smile)"."""
    return text[:start].rstrip().endswith("(") and not re.search(r"[()]", text[start:end])
