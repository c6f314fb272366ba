"""Find the words of the prompt that each concept draws. The first of the five sources in `WordsSource` wins."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import CLoRAError
from .tags import LoraTag, Role
from .text import ResolvedText, Span
from .words import Offsets, find_words, following_words, has_words, same_words, split_occurrence, word_in_name

MOST_CONCEPTS = 64
"""A concept is one row more in every forward, and one text more to read."""
_TOO_MANY = (
    f"The prompt has more than {MOST_CONCEPTS} concept LoRAs, each of which is a prompt of its own: remove tags, or "
    "leave some to the WebUI with role=off."
)
_ANY_TAG = re.compile(r"<\w+:[^<>]*>")


class WordsSource(enum.Enum):
    """Where a concept's words were found."""

    TAG = "words= in the tag"
    PANEL = "the panel's row"
    FOLLOWING = "the text after the tag"
    ACTIVATION = "the LoRA's activation text"
    NAME = "the LoRA's name"


@dataclass
class Subject:
    """A concept while it is being read: the indices of its tags, then its words and their offsets in the prompt.

    `given` holds the words of the tag or the panel as written; `after` is where the text after its tags begins.
    """

    tags: list[int]
    after: int
    given: str | None = None
    words: str = ""
    occurrence: int | None = None
    words_source: WordsSource | None = None
    offsets: Offsets = field(default=())


def group_subjects(prompt: str, tags: Sequence[LoraTag], panel_words: Mapping[str, str]) -> list[Subject]:
    """The concepts. Tags with no text between them belong to one concept, unless they have different words.

    Raises: CLoRAError for a LoRA twice on one subject, and for too many concepts.
    """
    groups: list[Subject] = []
    side_by_side: list[Subject] = []
    for i, tag in enumerate(tags):
        if i and has_words(_ANY_TAG.sub("", prompt[tags[i - 1].span.end : tag.span.start])):
            side_by_side = []
        if tag.role is Role.CONCEPT:
            given = tag.words or panel_words.get(tag.name)
            group = _joinable(side_by_side, given)
            if group is None:
                source = WordsSource.TAG if tag.words else WordsSource.PANEL if given else None
                group = Subject([], tag.span.end, given, words_source=source)
                groups.append(group)
                if len(groups) > MOST_CONCEPTS:
                    raise CLoRAError(_TOO_MANY)
                side_by_side.append(group)
            elif given and not group.given:
                group.given, group.words_source = given, WordsSource.TAG if tag.words else WordsSource.PANEL
            if tag.name in [tags[j].name for j in group.tags]:
                raise CLoRAError(
                    f'The LoRA "{tag.name}" is given twice for the same subject: remove one of its tags, or give each '
                    "its own words=."
                )
            group.tags.append(i)
        for group in side_by_side:
            group.after = tag.span.end
    return groups


def _joinable(side_by_side: Sequence[Subject], given: str | None) -> Subject | None:
    for group in reversed(side_by_side):
        if given is None or group.given is None or same_words(given) == same_words(group.given):
            return group
    return None


def find_subjects(
    prompt: str,
    base: ResolvedText,
    tags: Sequence[LoraTag],
    groups: Sequence[Subject],
    other_tags: Sequence[Span],
    activation_texts: Callable[[str], list[str]],
) -> None:
    """Fill in the words, occurrence, source and offsets of every group.

    Raises: CLoRAError if that is impossible.
    """
    starts = sorted([tag.span.start for tag in tags] + [span.start for span in other_tags])
    for group in groups:
        if group.given is not None:
            group.words, group.occurrence = split_occurrence(group.given)
            continue
        end = next((start for start in starts if start >= group.after), len(prompt))
        group.words, group.offsets = following_words(prompt, group.after, end)
        if group.words:
            group.words_source = WordsSource.FOLLOWING
            group.occurrence = _occurrence_at(base, group)
        else:
            _find_by_name(base, tags, group, activation_texts)
    _assign_offsets(base, tags, groups)


def _occurrence_at(base: ResolvedText, group: Subject) -> int:
    occurrences = find_words(base, group.words)
    return next((i for i, offsets in enumerate(occurrences, 1) if offsets[0] == group.offsets[0]), 1)


def _find_by_name(
    base: ResolvedText, tags: Sequence[LoraTag], group: Subject, activation_texts: Callable[[str], list[str]]
) -> None:
    """Find the words by the LoRA's activation text or name.

    Raises: CLoRAError if neither is in the prompt.
    """
    names = [tags[i].name for i in group.tags]
    for name in names:
        for text in activation_texts(name):
            for candidate in (text, *text.split(",")):
                if find_words(base, candidate):
                    group.words, group.words_source = " ".join(candidate.split()), WordsSource.ACTIVATION
                    return
    for name in names:
        word = word_in_name(base, name)
        if word is not None:
            group.words, group.words_source = word, WordsSource.NAME
            return
    raise CLoRAError(
        f'CLoRA cannot tell which words of the prompt the LoRA "{names[0]}" draws: put its tag in front of them, or '
        f"name them in the tag, for example <lora:{names[0]}:1:words=cat>. If it is a style, add role=style."
    )


def _assign_offsets(base: ResolvedText, tags: Sequence[LoraTag], groups: Sequence[Subject]) -> None:
    """Assign each group its own occurrence of its words: fixed ones first, then the longest words first.

    Raises: CLoRAError if an occurrence is missing or two groups need the same one.
    """
    taken: dict[int, Subject] = {}
    for group in groups:
        if group.offsets:
            _reserve(taken, tags, group, group.offsets)
    for group in groups:
        if not group.offsets and group.occurrence is not None:
            occurrences = find_words(base, group.words)
            if len(occurrences) < group.occurrence:
                raise CLoRAError(_missing_message(tags, group, len(occurrences)))
            _reserve(taken, tags, group, occurrences[group.occurrence - 1])
    waiting: dict[str, list[Subject]] = {}
    for group in groups:
        if not group.offsets:
            waiting.setdefault(same_words(group.words), []).append(group)
    for _, sharing in sorted(waiting.items(), key=lambda item: -len(item[0])):
        _distribute(base, taken, tags, sharing)


def _reserve(taken: dict[int, Subject], tags: Sequence[LoraTag], group: Subject, offsets: Offsets) -> None:
    """Reserve the offsets for a group.

    Raises: CLoRAError if another group has one of them.
    """
    other = next((taken[offset] for offset in offsets if offset in taken), None)
    if other is not None:
        raise CLoRAError(_shared_message(tags, other, group))
    group.offsets = offsets
    taken.update(dict.fromkeys(offsets, group))


def _distribute(
    base: ResolvedText, taken: dict[int, Subject], tags: Sequence[LoraTag], sharing: Sequence[Subject]
) -> None:
    """Distribute the free occurrences of the words that all groups of `sharing` have, in order.

    Raises: CLoRAError if there are too few.
    """
    occurrences = find_words(base, sharing[0].words)
    if not occurrences:
        raise CLoRAError(_missing_message(tags, sharing[0], 0))
    free = [i for i, offsets in enumerate(occurrences) if not any(offset in taken for offset in offsets)]
    if len(free) < len(sharing):
        owners = (taken[offset] for offsets in occurrences for offset in offsets if offset in taken)
        owner = next(owners, sharing[0])
        raise CLoRAError(_shared_message(tags, owner if len(sharing) == 1 else sharing[0], sharing[-1]))
    for group, i in zip(sharing, free, strict=False):
        group.occurrence = i + 1
        # A group that is alone gets every occurrence, because a schedule may repeat its words.
        own = free if len(sharing) == 1 else [i]
        _reserve(taken, tags, group, tuple(offset for j in own for offset in occurrences[j]))


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


def _names(tags: Sequence[LoraTag], group: Subject) -> str:
    return " + ".join(f'"{tags[i].name}"' for i in group.tags)


def _shared_message(tags: Sequence[LoraTag], first: Subject, second: Subject) -> str:
    words = second.words
    return (
        f'The LoRAs {_names(tags, first)} and {_names(tags, second)} both draw "{words}", but the prompt does not '
        f'have these words often enough: write them once for each subject ("a {words} and a {words}"), or give each '
        "tag its own words=."
    )


def _missing_message(tags: Sequence[LoraTag], group: Subject, count: int) -> str:
    where = "the correction" if group.words_source is WordsSource.PANEL else "the tag"
    names = _names(tags, group)
    if not count:
        problem = f'The words "{group.words}" of the LoRA {names} are not in the prompt'
    else:
        times = "once" if count == 1 else f"{count} times"
        problem = (
            f'The LoRA {names} names occurrence {group.occurrence} of "{group.words}", but the prompt has it {times}'
        )
    return f"{problem}: write the words in {where} as they are in the prompt."
