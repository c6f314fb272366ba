"""Which words of the prompt each concept draws (design: first match of five rules wins)."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import CLoRAError
from .tags import LoraTag, Role
from .text import ResolvedText, Span
from .words import Offsets, find_words, following_words, has_words, same_words, split_occurrence, word_in_name

_ANY_TAG = re.compile(r"<\w+:[^<>]*>")


class WordsRule(enum.Enum):
    """Where a concept's words were found."""

    TAG = "words= in the tag"
    PANEL = "the panel's row"
    FOLLOWING = "the text after the tag"
    ACTIVATION = "the LoRA's activation text"
    NAME = "the LoRA's name"


@dataclass
class Subject:
    """A concept while it is read: its tags (indices), then its words and their place in the prompt.

    `given` holds the words of rule 1 or 2 as written; `after` is where the text that follows its tags begins.
    """

    tags: list[int]
    after: int
    given: str | None = None
    words: str = ""
    occurrence: int | None = None
    rule: WordsRule | None = None
    place: Offsets = field(default=())


def group_subjects(prompt: str, tags: Sequence[LoraTag], panel_words: Mapping[str, str]) -> list[Subject]:
    """The concepts: tags with no text between them belong to one, unless they are given different words."""
    groups: list[Subject] = []
    side_by_side: list[Subject] = []
    for i, tag in enumerate(tags):
        if i and has_words(_ANY_TAG.sub("", prompt[tags[i - 1].span.end : tag.span.start])):
            side_by_side = []
        if tag.role is Role.CONCEPT:
            given = tag.words or panel_words.get(tag.name)
            group = _joinable(side_by_side, given)
            if group is None:
                rule = WordsRule.TAG if tag.words else WordsRule.PANEL if given else None
                group = Subject([], tag.span.end, given, rule=rule)
                groups.append(group)
                side_by_side.append(group)
            elif given and not group.given:
                group.given, group.rule = given, WordsRule.TAG if tag.words else WordsRule.PANEL
            if tag.name in [tags[j].name for j in group.tags]:
                raise CLoRAError(
                    f'The LoRA "{tag.name}" stands twice on one subject: remove one of its tags, or give '
                    "each its own words=."
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
    """Fill in words, occurrence, rule and place of every group.

    Raises CLoRAError where that is impossible.
    """
    starts = sorted([tag.span.start for tag in tags] + [span.start for span in other_tags])
    for group in groups:
        if group.given is not None:
            group.words, group.occurrence = split_occurrence(group.given)
            continue
        end = next((start for start in starts if start >= group.after), len(prompt))
        group.words, group.place = following_words(prompt, group.after, end)
        if group.words:
            group.rule = WordsRule.FOLLOWING
            group.occurrence = _occurrence_at(base, group)
        else:
            _find_by_name(base, tags, group, activation_texts)
    _claim(base, tags, groups)


def _occurrence_at(base: ResolvedText, group: Subject) -> int:
    places = find_words(base, group.words)
    return next((i for i, place in enumerate(places, 1) if place[0] == group.place[0]), 1)


def _find_by_name(
    base: ResolvedText, tags: Sequence[LoraTag], group: Subject, activation_texts: Callable[[str], list[str]]
) -> None:
    """Rules 4 and 5."""
    names = [tags[i].name for i in group.tags]
    for name in names:
        for text in activation_texts(name):
            for candidate in (text, *text.split(",")):
                if find_words(base, candidate):
                    group.words, group.rule = " ".join(candidate.split()), WordsRule.ACTIVATION
                    return
    for name in names:
        word = word_in_name(base, name)
        if word is not None:
            group.words, group.rule = word, WordsRule.NAME
            return
    raise CLoRAError(
        f'No words of the prompt tell what the LoRA "{names[0]}" draws: put its tag in front of them, or '
        "name them in it, "
        f"for example <lora:{names[0]}:1:words=cat>; a style has role=style in its tag."
    )


def _claim(base: ResolvedText, tags: Sequence[LoraTag], groups: Sequence[Subject]) -> None:
    """Give each group its own occurrence of its words: first those that are fixed, then the longest words."""
    taken: dict[int, Subject] = {}
    for group in groups:
        if group.place:
            _take(taken, tags, group, group.place)
    for group in groups:
        if not group.place and group.occurrence is not None:
            places = find_words(base, group.words)
            if len(places) < group.occurrence:
                raise CLoRAError(_missing_message(tags, group, len(places)))
            _take(taken, tags, group, places[group.occurrence - 1])
    waiting: dict[str, list[Subject]] = {}
    for group in groups:
        if not group.place:
            waiting.setdefault(same_words(group.words), []).append(group)
    for _, sharing in sorted(waiting.items(), key=lambda item: -len(item[0])):
        _share(base, taken, tags, sharing)


def _take(taken: dict[int, Subject], tags: Sequence[LoraTag], group: Subject, place: Offsets) -> None:
    other = next((taken[p] for p in place if p in taken), None)
    if other is not None:
        raise CLoRAError(_shared_message(tags, other, group))
    group.place = place
    taken.update(dict.fromkeys(place, group))


def _share(base: ResolvedText, taken: dict[int, Subject], tags: Sequence[LoraTag], sharing: Sequence[Subject]) -> None:
    """Give the occurrences of one text that nobody has yet to the groups that name it without a number."""
    places = find_words(base, sharing[0].words)
    if not places:
        raise CLoRAError(_missing_message(tags, sharing[0], 0))
    free = [i for i, place in enumerate(places) if not any(p in taken for p in place)]
    if len(free) < len(sharing):
        owner = next((taken[p] for place in places for p in place if p in taken), sharing[0])
        raise CLoRAError(_shared_message(tags, owner if len(sharing) == 1 else sharing[0], sharing[-1]))
    for group, i in zip(sharing, free, strict=False):
        group.occurrence = i + 1
        # Where nobody else draws these words all of them are this concept's: a schedule may repeat them.
        own = free if len(sharing) == 1 else [i]
        _take(taken, tags, group, tuple(p for j in own for p in places[j]))


def subject_of_style(base: ResolvedText, tag: LoraTag, groups: Sequence[Subject], tags: Sequence[LoraTag]) -> int:
    """The index of the concept that `role=style@WORDS` means: its words, or words that stand among them."""
    words, occurrence = split_occurrence(tag.role_words or "")
    places = find_words(base, words)
    if occurrence is not None:
        places = places[occurrence - 1 : occurrence]
    wanted = {p for place in places for p in place}
    meant = [i for i, group in enumerate(groups) if wanted.intersection(group.place)]
    exact = [i for i in meant if same_words(groups[i].words) == same_words(words)]
    meant = exact or meant
    if len(meant) == 1:
        return meant[0]
    known = ", ".join(f'"{group.words}"' for group in groups)
    if not meant:
        raise CLoRAError(
            f'The style LoRA "{tag.name}" is for "{tag.role_words}", which is no subject of the prompt: '
            f"write one of {known} "
            "after style@."
        )
    raise CLoRAError(
        f'The style LoRA "{tag.name}" is for "{words}", which {len(meant)} subjects have: add which one is '
        "meant, for "
        f"example role=style@{words}:nth=2."
    )


def _names(tags: Sequence[LoraTag], group: Subject) -> str:
    return " + ".join(f'"{tags[i].name}"' for i in group.tags)


def _shared_message(tags: Sequence[LoraTag], first: Subject, second: Subject) -> str:
    words = second.words
    return (
        f'The LoRAs {_names(tags, first)} and {_names(tags, second)} both draw "{words}", which stands too '
        "few times in the "
        f'prompt: write the words once for each subject ("a {words} and a {words}"), or give each tag its '
        "own words=."
    )


def _missing_message(tags: Sequence[LoraTag], group: Subject, count: int) -> str:
    where = "the correction" if group.rule is WordsRule.PANEL else "the tag"
    wanted = f'"{group.words}"' + (f" number {group.occurrence}" if group.occurrence else "")
    stands = f"stands there {count} times" if count else "is not in the prompt"
    return (
        f'The words {wanted} of the LoRA {_names(tags, group)} were not found, "{group.words}" {stands}: '
        f"write in {where} the "
        "words as they stand in the prompt."
    )
