"""What a LoRA is, by evidence: its weight, names, author's tags and trigger words, and the words beside its tag.

`clora/prompt/role_words.py` has the words. Roles that the user gives (role=, the panel) come before all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .evidence import Evidence
from .names import compact, name_parts, raw_parts
from .role_words import (
    ACCELERATORS,
    ACCELERATORS_BESIDE,
    ATTRIBUTES,
    CLASSES,
    COUNT,
    GENERAL,
    MODIFIERS,
    QUALITY,
    STYLE_ENDS,
    STYLES,
    STYLES_ALONE,
    SURROUNDINGS,
    TWEAKERS,
)
from .tags import LoraTag, Role

_ENDINGS = ("style", "styles", "details", "detail", "slider", "tweaker", "likeness", "offset", "finetuning", "enhancer")
_STYLE_BEFORE = re.compile(
    r"(?:\bstyles? of|\bart(?:work)? (?:by|of)|\bpaint(?:ed|ing) by|\bdrawn by)\s+[^,\n]{0,30}$", re.I
)
_WORD = re.compile(r"[^\W_]+")
_DESCRIPTION = 160  # characters of a description that may tell what a LoRA is
_DESCRIBED = re.compile(
    r"\b(?:(?:art|drawing|painting|illustration|photo) ?styles?|styles? (?:lora|model|of)|sliders?|"
    r"(?:details?|quality|lighting|contrast|noise) (?:tweaker|enhancer|improver|fixer|booster|offset)|"
    r"(?:adds?|more|improves?|enhances?) (?:\w+ )?(?:details?|contrast|quality|lighting)|accelerat\w+|distill\w+)\b",
    re.I,
)
_KINDS = {"style": Role.STYLE, "styles": Role.STYLE, "tool": Role.OFF, "slider": Role.OFF, "enhancer": Role.OFF}


class FoundRole(NamedTuple):
    """A role and why it was chosen, for the panel."""

    role: Role
    why: str


def role_by_evidence(
    tag: LoraTag, evidence: Evidence, following: str, before: str, words: frozenset[str]
) -> FoundRole | None:
    """The role of a LoRA that is no concept, None if nothing speaks against one.

    `following` are the subject words after its tag, `before` is the text directly in front of it, `words` are all
    words of the prompt in lower case.
    """
    if tag.unet < 0 or (tag.unet == 0 and tag.te < 0):
        return FoundRole(Role.OFF, "its weight is negative")
    if evidence.preferred_weight < 0:
        return FoundRole(Role.OFF, "its preferred weight is negative")
    for name in (tag.name, *evidence.names):
        found = _by_name(name, following, words)
        if found is not None:
            return found
    for kind in evidence.kinds:
        if kind in _KINDS:
            return FoundRole(_KINDS[kind], f'its author tags it as "{kind}"')
    if following:
        return FoundRole(Role.STYLE, f'"{following}" is a style') if says_style(following) else None
    last = before.split(",")[-1].strip(" ()[]\n")
    if _STYLE_BEFORE.search(before) or (says_style(last) and not _is_named(tag, evidence, words)):
        return FoundRole(Role.STYLE, f'"{last}" is a style')
    for phrase in _triggers(evidence):
        if says_style(phrase):
            return FoundRole(Role.STYLE, f'its trigger "{phrase}" is a style')
    return _by_description(evidence.description)


def _by_description(description: str) -> FoundRole | None:
    """The role that the beginning of a description tells, if it speaks of no subject."""
    start = description[:_DESCRIPTION]
    match = _DESCRIBED.search(start)
    if match is None or has_class(start):
        return None
    says = match.group().casefold()
    return FoundRole(Role.STYLE if "style" in says else Role.OFF, f'its description says "{says}"')


def _is_named(tag: LoraTag, evidence: Evidence, words: frozenset[str]) -> bool:
    """Whether the prompt has a part of the LoRA's name that is no style: "photo of kim <lora:kim:1>"."""
    parts = [part for name in (tag.name, *evidence.names) for part in name_parts(name) if not says_style(part)]
    return _any_in(parts, words)


def _any_in(parts: Iterable[str], words: frozenset[str]) -> bool:
    """Whether parts of a name that tell something are words of the prompt."""
    return any(len(part) > 2 and part in words and not too_general([part]) for part in parts)


def _by_name(name: str, following: str, words: frozenset[str]) -> FoundRole | None:
    parts = (*raw_parts(name), *name_parts(name))
    for part in parts:
        if part in STYLES or part in TWEAKERS or part in ACCELERATORS or _has_ending(part):
            role = Role.STYLE if part.rstrip("s").endswith("style") or part in STYLES else Role.OFF
            return FoundRole(role, f'its name says "{part}"')
    rest = name_parts(name)
    if rest and set(rest) <= ACCELERATORS_BESIDE and not has_class(following):
        return FoundRole(Role.OFF, f'its name says "{rest[0]}"')
    style = next((part for part in parts if part in STYLES_ALONE), None)
    if _any_in(rest, words):
        return None  # "lucy_cyberpunk" in a prompt with "lucy"
    if style is not None and (not following or says_style(following)):
        return FoundRole(Role.STYLE, f'its name says "{style}"')
    return None


def _has_ending(part: str) -> bool:
    return any(part.endswith(ending) and len(part) > len(ending) + 1 for ending in _ENDINGS)


def _triggers(evidence: Evidence) -> Iterator[str]:
    """The first words of the activation texts that name something, or else the most frequent training tag."""
    for text in evidence.texts:
        yield from trigger_items(text)[:1]
    if not evidence.texts and evidence.tags:
        yield evidence.tags[0][0]


def trigger_items(text: str) -> list[str]:
    """The items of an activation text that name something: not "1girl", "solo", "masterpiece" or "red hair"."""
    items = [" ".join(item.split()) for item in text.split(",")]
    return [item for item in items if item and not is_general(item) and not is_attribute(item)]


def says_style(phrase: str) -> bool:
    """Whether a phrase names a style: "ghibli style", "pixelart"."""
    words = [word.casefold() for word in _WORD.findall(phrase)]
    if not words:
        return False
    last = words[-1]
    all_style = all(word in STYLES_ALONE or word in TWEAKERS for word in words)
    return last in STYLES or last in STYLE_ENDS or _style_word(last) or all_style or compact(phrase) in STYLES_ALONE


def _style_word(word: str) -> bool:
    endings = ("style", "anime", "pixelart", "lineart", "artstyle", "realism")
    return any(word.endswith(ending) and len(word) > len(ending) + 1 for ending in endings)


def is_general(phrase: str) -> bool:
    """Whether a phrase names no subject: a count, a quality, a rating, a score, or a tag of whole pictures."""
    plain = " ".join(re.sub(r"[()\[\]\\]|:[\d.]+$", " ", phrase).casefold().replace("_", " ").split())
    return not plain or plain in GENERAL or QUALITY.fullmatch(plain) is not None or is_count(plain)


def is_count(phrase: str) -> bool:
    """Whether a phrase counts persons: "1girl", "2 boys"."""
    return all(COUNT.fullmatch(part) for part in [phrase.casefold()] if part) or all(
        COUNT.fullmatch(part) for part in phrase.casefold().split()
    )


def is_attribute(phrase: str) -> bool:
    """Whether a phrase names a part of a subject: "red hair", "summer dress"."""
    words = [word.casefold() for word in _WORD.findall(phrase)]
    return bool(words) and words[-1] in ATTRIBUTES


def is_surroundings(phrase: str) -> bool:
    """Whether a phrase names surroundings: "night city", "forest background"."""
    words = [word.casefold() for word in _WORD.findall(phrase)]
    return bool(words) and (words[-1] in SURROUNDINGS or words[-1] in ("background", "backgrounds"))


def has_class(phrase: str) -> bool:
    """Whether a phrase contains a noun of subjects: "red cat"."""
    return any(word.casefold() in CLASSES for word in _WORD.findall(phrase))


def too_general(words: Sequence[str]) -> bool:
    """Whether single words of a name are too general to find a subject by them."""
    return all(word in MODIFIERS or word in STYLES_ALONE or word in STYLES or len(word) < 2 for word in words)


def counts_persons(evidence: Evidence) -> bool:
    """Whether the LoRA was trained on pictures that are tagged with persons."""
    most = max((count for _, count in evidence.tags), default=0)
    if any(is_count(item.strip()) for text in evidence.texts for item in text.split(",") if item.strip()):
        return True
    return any(is_count(tag) and 2 * count >= most for tag, count in evidence.tags)
