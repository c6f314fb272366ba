"""The role of each tag: from the tag, from the panel's row, or from the evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ..errors import CLoRAError
from .composition import WordsOverride
from .evidence import Evidence, EvidenceSource
from .region import parse_region
from .roles import is_general, role_by_evidence
from .tags import LoraTag, Role, parse_role, parse_tags, read_tags, remove_tags
from .text import Span
from .words import following_words

_LOOK_BACK = 60  # characters before a tag that may say "in the style of ..."


@dataclass(frozen=True)
class ReadTags:
    """The tags of a prompt with the roles that they have.

    `called[i]` says whether the user calls tag i a concept, `whys` why CLoRA gave tags another role, by index.
    """

    tags: tuple[LoraTag, ...]
    called: tuple[bool, ...]
    whys: dict[int, str]


def tags_with_roles(prompt: str, rows: Mapping[str, WordsOverride], known: EvidenceSource) -> ReadTags:
    """The tags of a prompt, with the panel's rows and the roles found.

    Raises: CLoRAError as `parse_tags` does, for a wrong row, and for a LoRA that would be applied twice.
    """
    tags = tuple(_with_row(tag, rows.get(tag.name)) for tag in parse_tags(prompt))
    _refuse_two_roles(tags)
    return _with_found_roles(prompt, tags, rows, known)


def roles_of_tags(
    prompt: str, evidence: EvidenceSource | None, overrides: Mapping[str, WordsOverride] | None
) -> list[tuple[LoraTag, str]]:
    """The tags that can be read, with the roles that the evidence tells, and why; for a prompt that has problems."""
    rows: dict[str, WordsOverride] = {}
    for name, row in (overrides or {}).items():
        with suppress(CLoRAError):  # a wrong cell of the panel: the tag alone counts
            _with_row(LoraTag(name, Span(0, 0)), row)
            rows[name] = row
    tags = tuple(_with_row(tag, rows.get(tag.name)) for tag in read_tags(prompt)[0])
    read = _with_found_roles(prompt, tags, rows, evidence or (lambda name: Evidence()))
    return [(tag, read.whys.get(i, "")) for i, tag in enumerate(read.tags)]


def _with_row(tag: LoraTag, row: WordsOverride | None) -> LoraTag:
    if row is None:
        return tag
    if row.role and not tag.role_given:
        role, role_words = parse_role(row.role, f'the correction for "{tag.name}"')
        tag = replace(tag, role=role, role_words=role_words)
    if tag.region is None and (row.painted or row.place):
        region = row.painted or parse_region(row.place or "", f'the correction for "{tag.name}"')
        tag = replace(tag, region=region)
    if tag.trigger_given or not row.trigger:
        return tag
    return replace(tag, trigger=row.trigger.strip(), trigger_given=True)


def _is_called(tag: LoraTag, row: WordsOverride | None) -> bool:
    """Whether the user says that the LoRA of a tag is a concept."""
    if tag.role is not Role.CONCEPT:
        return False
    of_tag = tag.role_given or tag.words or tag.trigger or tag.region
    return bool(of_tag or (row is not None and (row.role or row.words or row.trigger)))


def _with_found_roles(
    prompt: str, tags: Sequence[LoraTag], rows: Mapping[str, WordsOverride], known: EvidenceSource
) -> ReadTags:
    """The tags with the roles that the evidence tells, where nobody gave one."""
    called = tuple(_is_called(tag, rows.get(tag.name)) for tag in tags)
    found: list[LoraTag] = []
    whys: dict[int, str] = {}
    every = frozenset(re.findall(r"[^\W_]+", remove_tags(prompt, tags).casefold()))
    bounds = [0, *(edge for tag in tags for edge in tag.span), len(prompt)]
    for i, tag in enumerate(tags):
        role = None
        if tag.role is Role.CONCEPT and not called[i]:
            words, _ = following_words(prompt, tag.span.end, bounds[2 * i + 3])
            before = prompt[max(bounds[2 * i], tag.span.start - _LOOK_BACK) : tag.span.start]
            following = "" if is_general(words) else words
            role = role_by_evidence(tag, known(tag.name), following, before, every)
        if role is not None:
            whys[i] = role.why
        found.append(replace(tag, role=role.role) if role is not None else tag)
    return ReadTags(tuple(found), called, whys)


def _refuse_two_roles(tags: Sequence[LoraTag]) -> None:
    """Raises: CLoRAError if a LoRA that is on everywhere (style, role=off) has a second tag with another role."""
    roles: dict[str, Role] = {}
    for tag in tags:
        other = roles.setdefault(tag.name, tag.role)
        if other is not tag.role and {other, tag.role} & {Role.STYLE, Role.OFF}:
            raise CLoRAError(
                f'The LoRA "{tag.name}" is in the prompt with {_spelled(other)} and with {_spelled(tag.role)}, so it '
                "would be applied twice: give both tags the same role, or remove one of them."
            )


def _spelled(role: Role) -> str:
    return f"role={role.value}" + ("WORDS" if role is Role.SUBJECT_STYLE else "")
