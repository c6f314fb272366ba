"""What can be said about every tag of a prompt, also where it asks for something impossible: role, words, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import CLoRAError
from .composition import WordsOverride
from .diagnostics import AND
from .evidence import EvidenceSource
from .render import Edit, render
from .search import find_subjects
from .subjects import Subject, group_subjects, subject_of_style
from .tag_roles import Problem, ReadTags, tags_with_roles
from .tags import LoraTag, Role, has_tags, read_tags
from .text import ResolvedText, Span
from .token_ranges import LONGEST_PROMPT, too_long

_OTHER_TAG = re.compile(r"<(?!lora:|lyco:|clora:)\w+:[^<>]+>")
_IN_TAG, _BY_USER, _NO_LORA = "role= in its tag", "your correction", "no LoRA"


@dataclass(frozen=True)
class TagReading:
    """What was found about one tag: its role (in `tag`), its words with their occurrence from 1, and why.

    `concept` is the number of its concept, for a style on one subject that of the subject, None for other roles.
    `problem` is a message about this tag, `wrong` the fields that it is about ("words", "role", "place").
    """

    tag: LoraTag
    words: str = ""
    occurrence: int = 1
    concept: int | None = None
    why: str = ""
    problem: str = ""
    wrong: tuple[str, ...] = ()


@dataclass
class Survey:
    """A prompt with its tags and concepts. It can be composed if it has no `problems`.

    `base` is the text without tags, `dropped` the other tags that are left out of it too, `styles` the concept of
    every style on one subject. `left` says of tags why they are no concept, `roles` why CLoRA gave them a role.
    """

    prompt: str
    tags: tuple[LoraTag, ...]
    base: ResolvedText
    dropped: list[Span] = field(default_factory=list)
    groups: list[Subject] = field(default_factory=list)
    styles: dict[int, int] = field(default_factory=dict)
    roles: dict[int, str] = field(default_factory=dict)
    left: dict[int, str] = field(default_factory=dict)
    unmet: list[tuple[Subject, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def message(self) -> str:
        """All problems in one message, "" if there are none."""
        return " ".join(dict.fromkeys(problem.message for problem in self.problems))

    @property
    def tags_of_host(self) -> tuple[LoraTag, ...]:
        """The tags, those that are no concept with the role off: the host applies them."""
        return tuple(replace(tag, role=Role.OFF) if i in self.left else tag for i, tag in enumerate(self.tags))

    def readings(self) -> list[TagReading]:
        """What was found about every tag, in the order of the prompt."""
        of_tag = {i: number for number, group in enumerate(self.groups) for i in group.tags}
        unmet = {i: (group, message) for group, message in self.unmet for i in group.tags}
        problems: dict[int, list[Problem]] = {}
        for problem in self.problems:
            for i in problem.tags:
                problems.setdefault(i, []).append(problem)
        return [
            self._reading(i, tag, of_tag.get(i), unmet.get(i), problems.get(i, []))
            for i, tag in enumerate(self.tags_of_host)
        ]

    def _reading(
        self, i: int, tag: LoraTag, concept: int | None, unmet: tuple[Subject, str] | None, own: Sequence[Problem]
    ) -> TagReading:
        problem = " ".join(dict.fromkeys(one.message for one in own))
        wrong = tuple(dict.fromkeys(one.field for one in own if one.field))
        if concept is not None:
            group = self.groups[concept]
            why = _NO_LORA if tag.without_lora else group.words_source.value if group.words_source else ""
            return TagReading(tag, group.words, group.occurrence or 1, concept, why, problem, wrong)
        if unmet is not None:
            group, message = unmet
            return TagReading(
                tag, group.words, group.occurrence or 1, None, "", problem or message, wrong or ("words",)
            )
        why = self.left.get(i) or self.roles.get(i) or (_IN_TAG if tag.role_given else _BY_USER)
        if tag.role is Role.CONCEPT:  # with a problem that kept its words from being found
            why = ""
        return TagReading(tag, tag.role_words or "", 1, self.styles.get(i), why, problem, wrong)


def survey(
    prompt: str, rows: Mapping[str, WordsOverride], known: EvidenceSource, *, drop_other_tags: bool = False
) -> Survey:
    """Read the tags of a prompt, with the panel's `rows` by LoRA name and what is `known` about LoRAs.

    `drop_other_tags` leaves other extensions' tags (`<hypernet:...>`) out of the text.
    """
    others = [Span(*match.span()) for match in _OTHER_TAG.finditer(prompt)]
    dropped = others if drop_other_tags else []
    if len(prompt) > LONGEST_PROMPT and has_tags(prompt, 2):
        problem = Problem(str(too_long(len(prompt), LONGEST_PROMPT)), ())
        return Survey(prompt, read_tags(prompt), ResolvedText("", ()), problems=[problem])
    read = tags_with_roles(prompt, rows, known)
    base = render(prompt, _edits(read.tags, dropped)).resolved
    found = Survey(prompt, read.tags, base, dropped, roles=read.whys, problems=list(read.problems))
    try:
        _find(found, read, rows, others, known)
    except CLoRAError as error:
        found.problems.append(Problem(str(error), ()))
    return found


def _edits(tags: Sequence[LoraTag], dropped: Sequence[Span]) -> list[Edit]:
    return sorted((Edit(span) for span in (*(tag.span for tag in tags), *dropped)), key=lambda edit: edit.span)


def _find(
    survey: Survey, read: ReadTags, rows: Mapping[str, WordsOverride], others: Sequence[Span], known: EvidenceSource
) -> None:
    """Fill in the concepts. Raises: CLoRAError for too many."""
    words = {name: row.words for name, row in rows.items() if row.words}
    groups = group_subjects(survey.prompt, read.tags, words, read.called)
    found = find_subjects(survey.prompt, survey.base, read.tags, groups, others, known)
    survey.groups, survey.left, survey.unmet = found.groups, found.left, found.unmet
    if len(found.groups) + len(found.unmet) > 1:
        survey.problems += [Problem(message, tuple(group.tags), "words") for group, message in found.unmet]
    for i, tag in enumerate(read.tags):
        if tag.role is Role.SUBJECT_STYLE and len(found.groups) > 1 and not AND.search(survey.base.text):
            try:
                survey.styles[i] = subject_of_style(survey.base, tag, found.groups, read.tags)
            except CLoRAError as error:
                survey.problems.append(Problem(str(error), (i,), "role"))
