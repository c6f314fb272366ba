"""The role of each tag: from the tag, from the panel's row, or from the evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..errors import CLoRAError, cut
from .composition import WordsOverride
from .evidence import EvidenceSource
from .region import parse_region
from .roles import is_general, role_by_evidence
from .tags import LoraTag, Role, parse_role, read_tags, remove_tags
from .words import following_words

_LOOK_BACK = 60  # characters before a tag that may say "in the style of ..."


class Problem(NamedTuple):
    """A message about something that a prompt asks for and that is not possible.

    `tags` are the numbers of the tags that it is about; `field` is what is wrong there ("words", "role", "place"), ""
    for the tag itself.
    """

    message: str
    tags: tuple[int, ...]
    field: str = ""


@dataclass(frozen=True)
class ReadTags:
    """The tags of a prompt with the roles that they have.

    `called[i]` says whether the user calls tag i a concept, `whys` why CLoRA gave tags another role, by index.
    """

    tags: tuple[LoraTag, ...]
    called: tuple[bool, ...]
    whys: dict[int, str]
    problems: tuple[Problem, ...] = ()


def tags_with_roles(prompt: str, rows: Mapping[str, WordsOverride], known: EvidenceSource) -> ReadTags:
    """The tags of a prompt, with the panel's rows and the roles found.

    Its problems are mistakes in tags, wrong rows, and LoRAs that would be applied twice; the tags have the rest.
    """
    tags: list[LoraTag] = []
    problems: list[Problem] = []
    of_tags: list[WordsOverride | None] = []
    for i, read in enumerate(read_tags(prompt)):
        tag, row, wrong = _with_row(read, rows.get(read.name))
        problems += [Problem(tag.mistake, (i,))] if tag.mistake else []
        problems += [Problem(message, (i,), field) for field, message in wrong.items()]
        tags.append(tag)
        of_tags.append(row)
    problems += _two_roles(tags)
    return _with_found_roles(prompt, tags, of_tags, known, problems)


def _with_row(
    tag: LoraTag, row: WordsOverride | None
) -> tuple[LoraTag, WordsOverride | None, dict[str, str]]:  # fmt: skip
    """The tag with its row, the row as far as it can be read, and by field what is wrong in it."""
    if row is None:
        return tag, None, {}
    where, wrong = f'the correction for "{cut(tag.name)}"', dict[str, str]()
    if row.role and not tag.role_given:
        try:
            role, role_words = parse_role(row.role, where)
            tag = replace(tag, role=role, role_words=role_words)
        except CLoRAError as error:
            wrong["role"] = str(error)
    if tag.region is None and (row.painted or row.place):
        try:
            tag = replace(tag, region=row.painted or parse_region(row.place or "", where))
        except CLoRAError as error:
            wrong["place"] = str(error)
    if not tag.trigger_given and row.trigger:
        tag = replace(tag, trigger=row.trigger.strip(), trigger_given=True)
    if tag.say is None and row.say:
        tag = replace(tag, say=row.say.strip())
    return tag, replace(row, role=None) if "role" in wrong else row, wrong


def _is_called(tag: LoraTag, row: WordsOverride | None) -> bool:
    """Whether the user says that the LoRA of a tag is a concept."""
    if tag.role is not Role.CONCEPT:
        return False
    of_tag = tag.role_given or tag.words or tag.trigger or tag.region or tag.say
    return bool(of_tag or (row is not None and (row.role or row.words or row.trigger)))


def _with_found_roles(
    prompt: str, tags: Sequence[LoraTag], rows: Sequence[WordsOverride | None], known: EvidenceSource,
    problems: Sequence[Problem],
) -> ReadTags:  # fmt: skip
    """The tags with the roles that the evidence tells, where nobody gave one."""
    called = tuple(map(_is_called, tags, rows))
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
    return ReadTags(tuple(found), called, whys, tuple(problems))


def _two_roles(tags: Sequence[LoraTag]) -> list[Problem]:
    """A problem for every LoRA that is on everywhere (style, role=off) and has a second tag with another role."""
    roles: dict[str, Role] = {}
    found: dict[str, Problem] = {}
    for i, tag in enumerate(tags):
        if tag.without_lora:
            continue
        other = roles.setdefault(tag.name, tag.role)
        if other is not tag.role and {other, tag.role} & {Role.STYLE, Role.OFF}:
            message = (
                f'The LoRA "{tag.name}" is in the prompt with {_spelled(other)} and with {_spelled(tag.role)}, so it '
                "would be applied twice: give both tags the same role, or remove one of them."
            )
            found.setdefault(tag.name, Problem(message, (i,), "role"))
    return list(found.values())


def _spelled(role: Role) -> str:
    return f"role={role.value}" + ("WORDS" if role is Role.SUBJECT_STYLE else "")
