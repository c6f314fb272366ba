"""A subject's own words (`say=`): only its own variant reads them, after the phrase that names the subject."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .role_words import OBJECT_VERBS, PREPOSITIONS, VERBS
from .roles import has_class
from .subjects import Subject
from .tag_items import brackets_match, is_own_words, split_items, without_brackets
from .tags import LoraTag, Role, read_tags
from .text import ResolvedText, Span
from .words import ARTICLES, JOINING, find_words, following_words

_JOINED = JOINING | OBJECT_VERBS
"""Words that follow a noun without a comma: "cat with a red scarf", "cat wearing a red scarf"."""
_NOT_BEFORE = _JOINED | PREPOSITIONS | VERBS | {","}
_PIECES = re.compile(r"[^\W_]+|,")
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
_BRACKET = re.compile(r"\\.|[()\[\]]")
_WORD = re.compile(r"[^\W_]+")
_WEIGHTS = re.compile(r"(?:\s|:\s*[+-]?\d*\.?\d*)*")
"""What stands between the last word of a bracket and its end: nothing, the weight, or the step of a schedule."""
_NEXT = re.compile(r"[ \t]*(\Z|\n|BREAK\b|AND\b|[,.;:!?)\]|\uff0c\u3001\u3002])")
"""What is not separated from the words before it by a comma."""


class OwnWords(NamedTuple):
    """`text` to insert at `offset` of the prompt, with the commas around it."""

    offset: int
    text: str


def said_by(tags: Sequence[LoraTag]) -> str:
    """The own words of a concept's tags, each once; brackets that do not match are left out."""
    texts = (" ".join((tag.say or "").split()).strip(", ") for tag in tags)
    readable = (text if brackets_match(text) else without_brackets(text) for text in texts)
    return ", ".join(dict.fromkeys(text for text in readable if text))


def own_words(base: ResolvedText, tags: Sequence[LoraTag], groups: Sequence[Subject]) -> list[list[OwnWords]]:
    """For each concept what its own variant reads in addition: its words, after every place that names it."""
    return [list(_of_group(base, said_by([tags[i] for i in group.tags]), group, groups)) for group in groups]


def own_words_warnings(tags: Sequence[LoraTag]) -> list[str]:
    """Warnings about own words that are not used as they are written."""
    warnings = []
    for tag in tags:
        if tag.say and tag.role is not Role.CONCEPT and not tag.without_lora:
            warnings.append(
                f'CLoRA ignores say= of "{tag.name}": only a subject has words of its own, and its role is '
                f"{tag.role.value.rstrip('@')}."
            )
        elif tag.say and tag.role is Role.CONCEPT and not brackets_match(tag.say):
            warnings.append(
                f'The brackets in say= of "{tag.name}" do not match, so CLoRA leaves them out: close each one, as in '
                "say=(red scarf:1.2), smiling."
            )
    return warnings


def readable_by_host(prompt: str) -> str:
    """The prompt as a host reads it that is to apply its LoRAs.

    A WebUI takes what follows a colon in a tag as a number, so own words with a weight would keep it from loading the
    LoRA: they are left out of the tag.
    """
    for tag in reversed(read_tags(prompt)):
        inside, items = prompt[tag.span.start + 1 : tag.span.end - 1], list[str]()
        for item in split_items(inside):
            if not (is_own_words(item) and (":" in item or item.count("=") > 1)):
                items.append(item)
        prompt = f"{prompt[: tag.span.start]}<{':'.join(items)}>{prompt[tag.span.end :]}"
    return prompt


def _of_group(base: ResolvedText, words: str, group: Subject, groups: Sequence[Subject]) -> Iterator[OwnWords]:
    if not words or not group.offsets:
        return
    own = set(group.offsets)
    places = [offsets for offsets in find_words(base, group.words) if own.issuperset(offsets)] or [group.offsets]
    others = [offset for other in groups if other is not group for offset in other.offsets]
    for offsets in places:
        spans = base.spans_of(offsets)
        if not spans:
            continue
        # Alternatives of a schedule have no place in between.
        before, after = _around_the_subject(words, group.words) if len(spans) == 1 else ("", words)
        yield from _inserted(base, spans[0].start, before)
        if not brackets_match(before):  # what follows closes them
            yield from _inserted(base, spans[-1].end, after)
            continue
        end, after = _after_phrase(base, group, spans[-1].end, others), after.strip(" ,")
        yield from _inserted(base, end, _with_commas(after, base.text[end:]) if after else "")


def _inserted(base: ResolvedText, at: int, text: str) -> Iterator[OwnWords]:
    while text and 0 < at < len(base.text) and base.offsets[at] < 0:  # an inserted space
        at += 1
    if text:
        yield OwnWords(base.offsets[at] if at < len(base.text) else base.offsets[at - 1] + 1, text)


def _around_the_subject(words: str, subject: str) -> tuple[str, str]:
    """What of own words stands before the subject and what after it.

    "tall woman in a coat" has the subject "woman" in it and is put around it. All else comes after.
    """
    for name in (subject, *subject.split()[-1:]):
        match = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words, re.IGNORECASE)
        if match is None:
            continue
        before, after = _ARTICLE.sub("", words[: match.start()]).strip(), words[match.end() :].strip()
        first = _WORD.match(after)
        goes_on = first is None or first.group().casefold() in _JOINED or first.group().casefold().endswith("ing")
        if goes_on and not _NOT_BEFORE.intersection(word.casefold() for word in _PIECES.findall(before)):
            return before, after
    return "", words


def _after_phrase(base: ResolvedText, group: Subject, end: int, others: Sequence[int]) -> int:
    """Where the phrase ends that names a subject whose words end at `end`.

    A noun that follows words without one belongs to the phrase ("sks" and "sks cat"). Brackets that end with the
    phrase are passed, so that their weight does not count for the own words.
    """
    if not has_class(group.words):
        behind = [span.start for span in base.spans_of(others) if span.start >= end]
        words, more = following_words(base.text, end, min(behind, default=len(base.text)))
        end = more[-1] + 1 if has_class(words) else end
    own = {index for span in base.spans_of(group.offsets) for index in range(*span)}
    for bracket in _around(base.text, end):
        between = _WEIGHTS.fullmatch(base.text, end, bracket.end - 1)
        if between is None or (_is_schedule(base.text, bracket) and not _is_all(base.text, bracket.start, end, own)):
            break
        end = bracket.end
    return end


def _around(text: str, at: int) -> list[Span]:
    """The brackets around position `at`, with what is in them, the innermost first."""
    is_open: list[re.Match[str]] = []
    found: list[Span] = []
    for match in _BRACKET.finditer(text):
        if match.group() in "([":
            is_open.append(match)
        elif match.group() in ")]" and is_open and is_open[-1].group() == {")": "(", "]": "["}[match.group()]:
            start = is_open.pop().start()
            if start < at <= match.start():
                found.append(Span(start, match.end()))
    return found


def _is_schedule(text: str, bracket: Span) -> bool:
    """Whether a bracket has alternatives: `[a:b:0.5]`, `[a|b]`."""
    return text[bracket.start] == "[" and bool({":", "|"}.intersection(text[bracket.start : bracket.end]))


def _is_all(text: str, start: int, end: int, own: set[int]) -> bool:
    """Whether a part of the text has no words but those of the subject, and articles."""
    rest = "".join(" " if index in own else text[index] for index in range(start, end))
    return all(word.casefold() in ARTICLES for word in _WORD.findall(rest))


def _with_commas(words: str, behind: str) -> str:
    """The words with commas to the phrase before and the text `behind`, where they are items of their own."""
    first = _WORD.search(words)
    joined = first is not None and first.group().casefold() in _JOINED
    comma = "," if (not joined or "," in words) and _NEXT.match(behind) is None else ""
    return f"{'' if joined else ', '}{words}{comma}"
