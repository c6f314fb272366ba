"""Prompts that the extension Dynamic Prompts draws from anew for each picture: `{a|b}` and `__name__`."""

from __future__ import annotations

import re
from collections import Counter

from .tags import LoraTag, read_tags
from .text import Span

_BRACES = re.compile(r"\{([^{}]*)\}")
_WILDCARD = re.compile(r"(?<!\w)__(?=[\w/*])[\w/*.\- ]{1,80}?__(?!\w)")
_COUNT = re.compile(r"\s*\d*\s*-?\s*\d*\s*\$\$(?:[^$|]*\$\$)?")
_SHARE = re.compile(r"\s*\d*\.?\d+::")
_DEEPEST = 20
_MOST = 1000  # braces


def one_possible_text(prompt: str) -> str:
    """The prompt with the first alternative of every `{a|b}`; wildcards stay as they are."""
    for _ in range(_DEEPEST):
        chosen = _BRACES.sub(_first, prompt, count=_MOST)
        if chosen == prompt:
            break
        prompt = chosen
    return prompt


def _first(match: re.Match[str]) -> str:
    inside = match[1]
    counted = _COUNT.match(inside)
    if "|" not in inside and counted is None:
        return match[0]
    first = inside[counted.end() if counted else 0 :].split("|")[0]
    return _SHARE.sub("", first, count=1)


def drawn_note(prompt: str) -> str:
    """One sentence about a prompt that is drawn from anew for each picture, "" for any other."""
    alternatives = one_possible_text(prompt) != prompt
    kinds = [kind for kind, found in (("{a|b}", alternatives), ("__name__", _WILDCARD.search(prompt))) if found]
    if not kinds:
        return ""
    read = "one possible text, with the first alternatives" if alternatives else "the text as it stands"
    return (
        f"With Dynamic Prompts this prompt is drawn from anew for each picture ({', '.join(kinds)}), and the table "
        f"shows {read}."
    )


def uncertain_tags(prompt: str) -> tuple[list[LoraTag], Counter[str]]:
    """The tags that the one possible text lacks, and how often each tag that it has may be absent in another one."""
    possible = one_possible_text(prompt)
    written = Counter(possible[slice(*tag.span)] for tag in read_tags(possible))
    missing: list[LoraTag] = []
    absent: Counter[str] = Counter()
    inside = _alternative_spans(prompt)
    for tag in read_tags(prompt):
        text = prompt[slice(*tag.span)]
        chosen = one_possible_text(text)  # alternatives inside a tag: <lora:{a|b}:1>
        if written[chosen] > 0:
            written[chosen] -= 1
            absent[chosen] += chosen != text or any(span.start <= tag.span.start < span.end for span in inside)
        else:
            missing.append(tag)
    return missing, absent


def _alternative_spans(prompt: str) -> list[Span]:
    """The parts of a prompt in outermost braces with alternatives."""
    spans: list[Span] = []
    depth = start = 0
    for match in re.finditer(r"[{}]", prompt):
        if match[0] == "{":
            start = match.start() if depth == 0 else start
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0 and one_possible_text(prompt[start : match.end()]) != prompt[start : match.end()]:
                spans.append(Span(start, match.end()))
    return spans
