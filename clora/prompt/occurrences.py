"""Give each concept its own occurrence of its words. What cannot have one joins another concept or is left out."""

from __future__ import annotations

from collections.abc import Sequence

from .names import name_parts
from .subjects import Subject, WordsSource, names_of
from .tags import LoraTag
from .text import ResolvedText
from .words import Offsets, find_words, same_words


class Occurrences:
    """Assigns occurrences to the concepts of one prompt: fixed ones first, then the longest words first.

    `unmet` are the explicit wishes that cannot be met, with their messages; `left` are the concepts without an
    occurrence that nobody asked for.
    """

    def __init__(self, base: ResolvedText, tags: Sequence[LoraTag]) -> None:
        self.base, self.tags = base, tags
        self.unmet: list[tuple[Subject, str]] = []
        self.left: list[Subject] = []
        self._taken: dict[int, Subject] = {}

    def assign(self, groups: Sequence[Subject]) -> list[Subject]:
        """The concepts that have occurrences now, in the order of `groups`."""
        kept = list(groups)
        for group in groups:
            if group.offsets:
                self._reserve(kept, group, group.offsets)
        for group in groups:
            if not group.offsets and group.occurrence is not None and group in kept:
                occurrences = find_words(self.base, group.words)
                if len(occurrences) < group.occurrence:
                    self._refuse(kept, group, _missing_message(self.tags, group, len(occurrences)))
                else:
                    self._reserve(kept, group, occurrences[group.occurrence - 1])
        waiting: dict[str, list[Subject]] = {}
        for group in kept:
            if not group.offsets:
                waiting.setdefault(same_words(group.words), []).append(group)
        for _, sharing in sorted(waiting.items(), key=lambda item: -len(item[0])):
            self._distribute(kept, sharing)
        return kept

    def _reserve(self, kept: list[Subject], group: Subject, offsets: Offsets) -> None:
        other = next((self._taken[offset] for offset in offsets if offset in self._taken), None)
        if other is None:
            group.offsets = offsets
            self._taken.update(dict.fromkeys(offsets, group))
        elif not self._join(kept, group, other):
            group.offsets = ()
            self._refuse(kept, group, _shared_message(self.tags, other, group))

    def _join(self, kept: list[Subject], group: Subject, other: Subject) -> bool:
        """Whether the group became a part of another one, because both are the same LoRA or files of one character."""
        if group.given is not None or other.without_lora or not _same_character(self.tags, group, other):
            return False
        other.tags.extend(group.tags)
        _remove(kept, group)
        return True

    def _refuse(self, kept: list[Subject], group: Subject, message: str) -> None:
        _remove(kept, group)
        if (group.given is not None or group.called) and not group.without_lora:
            self.unmet.append((group, message))
        else:
            self.left.append(group)

    def _distribute(self, kept: list[Subject], sharing: Sequence[Subject]) -> None:
        """Distribute the free occurrences of the words that all groups of `sharing` have, in order."""
        occurrences = find_words(self.base, sharing[0].words)
        if not occurrences:
            for group in sharing:
                self._refuse(kept, group, _missing_message(self.tags, group, 0))
            return
        free = [i for i, at in enumerate(occurrences) if not any(offset in self._taken for offset in at)]
        owners = [self._taken[offset] for at in occurrences for offset in at if offset in self._taken]
        sharing = self._without_joined(kept, sharing, len(free), owners)
        # Nobody's wish is preferred: without enough occurrences, words that were only found tell nothing apart.
        if len(free) < len(sharing) and all(group.given is None for group in sharing):
            for group in sharing:
                self._refuse(kept, group, _shared_message(self.tags, (owners or [group])[0], group))
            return
        if len(free) < len(sharing):  # LoRAs first, because a subject without one is only left out
            sharing = sorted(sharing, key=lambda group: group.without_lora)
        for number, group in enumerate(sharing):
            if number >= len(free):
                first = owners[0] if owners and len(sharing) == 1 else sharing[0]
                self._refuse(kept, group, _shared_message(self.tags, first, group))
                continue
            group.occurrence = free[number] + 1
            # A group that is alone gets every occurrence, because a schedule may repeat its words.
            own = free if len(sharing) == 1 else [free[number]]
            self._reserve(kept, group, tuple(offset for j in own for offset in occurrences[j]))

    def _without_joined(
        self, kept: list[Subject], sharing: Sequence[Subject], free: int, owners: Sequence[Subject]
    ) -> list[Subject]:
        """The groups that need an occurrence of their own. If there are too few, files of one character join."""
        rest: list[Subject] = []
        for group in sharing:
            others = [*rest, *owners] if len(sharing) > free else []
            if not any(self._join(kept, group, other) for other in others):
                rest.append(group)
        return rest


def _remove(groups: list[Subject], group: Subject) -> None:
    groups[:] = [one for one in groups if one is not group]


def _same_character(tags: Sequence[LoraTag], first: Subject, second: Subject) -> bool:
    own = {_stem(tags[i].name) for i in first.tags}
    return bool(own & {_stem(tags[i].name) for i in second.tags})


def _stem(name: str) -> tuple[str, ...]:
    """What the names of several files of one character share: the name without version and folder."""
    return name_parts(name) or (name,)


def _shared_message(tags: Sequence[LoraTag], first: Subject, second: Subject) -> str:
    words = second.words
    return (
        f'The LoRAs {names_of(tags, first)} and {names_of(tags, second)} both draw "{words}", but the prompt does not '
        f'have these words often enough: write them once for each subject ("a {words} and a {words}"), or give each '
        "tag its own words=."
    )


def _missing_message(tags: Sequence[LoraTag], group: Subject, count: int) -> str:
    where = "the correction" if group.words_source is WordsSource.PANEL else "the tag"
    names = names_of(tags, group)
    if not count:
        problem = f'The words "{group.words}" of the LoRA {names} are not in the prompt'
    else:
        times = "once" if count == 1 else f"{count} times"
        problem = (
            f'The LoRA {names} names occurrence {group.occurrence} of "{group.words}", but the prompt has it {times}'
        )
    return f"{problem}: write the words in {where} as they are in the prompt."
