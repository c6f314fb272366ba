"""Concepts while a prompt is being read: their tags, their words, and which of them stand side by side."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import CLoRAError
from .tags import LoraTag, Role
from .text import ResolvedText
from .words import Offsets, find_words, has_words, same_words, split_occurrence

MOST_CONCEPTS = 64
"""A concept is one row more in every forward, and one text more to read."""
_TOO_MANY = (
    f"The prompt has more than {MOST_CONCEPTS} concept LoRAs, each of which is a prompt of its own: remove tags, or "
    "leave some to the WebUI with role=off."
)
_ANY_TAG = re.compile(r"<\w+:[^<>]*>")


class WordsSource(enum.Enum):
    """Where a concept's words were found."""

    TAG = "words= in its tag"
    PANEL = "your correction"
    FOLLOWING = "from the text after its tag"
    BEFORE = "from the text before its tag"
    ACTIVATION = "from its activation text"
    TRAINING = "from its training tags"
    NAME = "from its name"


@dataclass
class Subject:
    """A concept while it is being read: the indices of its tags, then its words and their offsets in the prompt.

    `given` holds the words of the tag or the panel as written; `start` and `after` are where its tags begin and where
    the text after them begins. `called`: the user says that it is a concept, so it is not left to the host.
    `without_lora`: it is a subject of a `<clora:...>` tag.
    """

    tags: list[int]
    start: int
    after: int
    given: str | None = None
    words: str = ""
    occurrence: int | None = None
    words_source: WordsSource | None = None
    offsets: Offsets = field(default=())
    called: bool = False
    without_lora: bool = False


def group_subjects(
    prompt: str, tags: Sequence[LoraTag], panel_words: Mapping[str, str], called: Sequence[bool]
) -> list[Subject]:
    """The concepts. Tags with no text between them belong to one concept, unless they have different words.

    Raises: CLoRAError for too many concepts.
    """
    groups: list[Subject] = []
    side_by_side: list[Subject] = []
    start = 0
    for i, tag in enumerate(tags):
        if i and has_words(_ANY_TAG.sub("", prompt[tags[i - 1].span.end : tag.span.start])):
            side_by_side = []
        if not i or not side_by_side:
            start = tag.span.start
        if tag.role is Role.CONCEPT:
            given = tag.words or panel_words.get(tag.name)
            group = _joinable([one for one in side_by_side if one.without_lora is tag.without_lora], given)
            source = WordsSource.TAG if tag.words else WordsSource.PANEL if given else None
            if group is None:
                group = Subject([], start, tag.span.end, given, words_source=source, without_lora=tag.without_lora)
                groups.append(group)
                if len(groups) > MOST_CONCEPTS:
                    raise CLoRAError(_TOO_MANY)
                side_by_side.append(group)
            elif given and not group.given:
                group.given, group.words_source = given, source
            group.called = group.called or called[i]
            group.tags.append(i)
        for group in side_by_side:
            group.after = tag.span.end
    return groups


def _joinable(side_by_side: Sequence[Subject], given: str | None) -> Subject | None:
    for group in reversed(side_by_side):
        if given is None or group.given is None or same_words(given) == same_words(group.given):
            return group
    return None


def subject_of_style(base: ResolvedText, tag: LoraTag, groups: Sequence[Subject], tags: Sequence[LoraTag]) -> int:
    """The index of the concept that `role=style@WORDS` names, by its words or a part of them.

    Raises: CLoRAError if no concept or more than one has these words.
    """
    words, occurrence = split_occurrence(tag.role_words or "")
    occurrences = find_words(base, words)
    if occurrence is not None:
        occurrences = occurrences[occurrence - 1 : occurrence]
    wanted = {offset for offsets in occurrences for offset in offsets}
    meant = [i for i, group in enumerate(groups) if wanted.intersection(group.offsets)]
    exact = [i for i in meant if same_words(groups[i].words) == same_words(words)]
    meant = exact or meant
    if len(meant) == 1:
        return meant[0]
    known = ", ".join(f'"{group.words}"' for group in groups)
    if not meant:
        raise CLoRAError(
            f'The style LoRA "{tag.name}" names "{tag.role_words}", which is not a subject of the prompt: write one '
            f"of {known} after style@."
        )
    raise CLoRAError(
        f'The style LoRA "{tag.name}" names "{words}", which matches {len(meant)} subjects: say which one, for '
        f"example role=style@{words}:nth=2."
    )


def names_of(tags: Sequence[LoraTag], group: Subject) -> str:
    """The LoRAs of a concept, for messages; of a subject without a LoRA its words."""
    return " + ".join(f'"{name}"' for name in dict.fromkeys(tags[i].name for i in group.tags))
