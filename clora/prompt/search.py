"""Find the words of the prompt that each concept draws. The first of the sources in `WordsSource` that has any wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .candidates import Candidate, Candidates
from .counts import persons_asked
from .evidence import EvidenceSource
from .names import PromptWords, compact, name_parts
from .occurrences import Occurrences
from .roles import counts_persons, has_class, is_attribute, is_count, is_general, is_surroundings
from .subjects import Subject, WordsSource, names_of
from .tags import LoraTag, Role
from .text import ResolvedText, Span
from .words import ARTICLES, find_words, following_words, same_words, split_occurrence


@dataclass
class Found:
    """The concepts with their words, and the tags that are no concept, with the reason.

    `unmet` are wishes of the user that cannot be met, with the concepts that they are about.
    """

    groups: list[Subject]
    left: dict[int, str] = field(default_factory=dict)
    unmet: list[tuple[Subject, str]] = field(default_factory=list)


def find_subjects(
    prompt: str,
    base: ResolvedText,
    tags: Sequence[LoraTag],
    groups: Sequence[Subject],
    other_tags: Sequence[Span],
    evidence: EvidenceSource,
) -> Found:
    """Fill in the words, occurrence, source and offsets of every group; split groups of tags with own words."""
    search = _Search(prompt, base, tags, other_tags, evidence)
    found = Found([])
    for group in groups:
        for one in search.split(group, found.groups):
            if one.words:
                found.groups.append(one)
            elif group.called:
                found.unmet.append((one, _no_words_message(tags, one)))
            elif not _join_same_lora(tags, one, found.groups):
                found.left.update({i: search.why_none(tags[i].name) for i in one.tags})
    found.left.update(search.leave_excess(found.groups))
    occurrences = Occurrences(base, tags)
    found.groups = occurrences.assign(found.groups)
    for group in occurrences.left:
        missing = "not in the prompt once for each LoRA"
        if group.without_lora:
            missing = "not in the prompt" + " once for each subject" * bool(find_words(base, group.words))
        found.left.update(dict.fromkeys(group.tags, f'"{group.words}" is {missing}'))
    found.unmet += occurrences.unmet
    return found


def _join_same_lora(tags: Sequence[LoraTag], group: Subject, others: Sequence[Subject]) -> bool:
    """Whether the group's LoRA is on a concept already, which it joined: its weights add."""
    names = {tags[i].name for i in group.tags}
    for other in others:
        if not other.without_lora and names <= {tags[i].name for i in other.tags}:
            other.tags.extend(group.tags)
            return True
    return False


def _no_words_message(tags: Sequence[LoraTag], group: Subject) -> str:
    name = tags[group.tags[0]].name
    return (
        f"CLoRA cannot tell which words of the prompt the LoRA {names_of(tags, group)} draws: put its tag in front of "
        f"them, or name them in the tag, for example <lora:{name}:1:words=cat>. If it is a style, add role=style."
    )


class _Search:
    """Searches one prompt."""

    def __init__(
        self, prompt: str, base: ResolvedText, tags: Sequence[LoraTag], other_tags: Sequence[Span],
        evidence: EvidenceSource,
    ) -> None:  # fmt: skip
        self.prompt, self.base, self.tags, self.evidence = prompt, base, tags, evidence
        self._starts = sorted([tag.span.start for tag in tags] + [span.start for span in other_tags])
        self._words = PromptWords(base, [tag.span.start for tag in tags])
        self._candidates = Candidates(self._words)
        self._of: dict[str, list[Candidate]] = {}

    def leave_excess(self, groups: list[Subject]) -> dict[int, str]:
        """Remove groups with bare triggers if there are more than persons in the prompt, the least certain first."""
        asked = persons_asked(self.base.text)
        bare = [group for group in groups if not (group.called or group.given or has_class(group.words))]
        if not asked or len(bare) <= asked:
            return {}
        left: dict[int, str] = {}
        for group in sorted(bare, key=self._certainty, reverse=True)[asked:]:
            groups[:] = [other for other in groups if other is not group]
            left.update(
                dict.fromkeys(group.tags, f'the prompt asks for {asked} persons, and "{group.words}" may be a style')
            )
        return left

    def _certainty(self, group: Subject) -> int:
        """How certain a group with a bare trigger is a person: trained on persons, words beside the tag."""
        trained = any(counts_persons(self.evidence(self.tags[i].name)) for i in group.tags)
        return 2 * trained + (group.words_source in (WordsSource.FOLLOWING, WordsSource.BEFORE))

    def why_none(self, name: str) -> str:
        """Why no words of the prompt are a LoRA's."""
        return self._candidates.why_none(name, self.evidence(name))

    def split(self, group: Subject, earlier: Sequence[Subject]) -> list[Subject]:
        """The group with its words, or several groups if its tags have different ones."""
        if group.given is not None:
            group.words, group.occurrence = split_occurrence(group.given)
            return [self._at_its_tag(group) if group.without_lora and group.occurrence is None else group]
        end = next((start for start in self._starts if start >= group.after), len(self.prompt))
        words, offsets = following_words(self.prompt, group.after, end)
        usable = self._is_usable(group, words)
        found = [] if usable and len(group.tags) == 1 else self._by_evidence(group)
        if sum(bool(one.words) for one in found) > 1:
            return found
        if usable and self._is_known(group, words):
            return [self._placed(group, words, offsets, WordsSource.FOLLOWING)]
        certain = usable and has_class(words)
        before = self._directly_before(
            group, earlier, comma=not certain and len(words.split()) < 2, sure=is_attribute(words)
        )
        if before:
            return before
        if usable:
            return [self._placed(group, words, offsets, WordsSource.FOLLOWING)]
        if any(one.words for one in found):
            return found
        meant = self._candidates.several or self._after_article(group)
        part = is_attribute(words) and meant and not is_surroundings(words)
        if words and (is_count(words) or part):
            return [self._placed(group, words, offsets, WordsSource.FOLLOWING)]
        return self._class_before(group, earlier)

    def _at_its_tag(self, group: Subject) -> Subject:
        """The group with its words where they follow its tag: a subject without a LoRA names its words itself."""
        end = next((start for start in self._starts if start >= group.after), len(self.prompt))
        _, following = following_words(self.prompt, group.after, end)
        here = next((at for at in find_words(self.base, group.words) if set(at) <= set(following)), ())
        return self._placed(group, group.words, here, WordsSource.TAG) if here else group

    def _is_usable(self, group: Subject, words: str) -> bool:
        """Whether the words after a tag name its subject. With one person in the prompt, a trigger may be a style's."""
        # "person" alone describes a picture, but "a <tag> person" is one.
        meant = has_class(words) and (group.called or self._after_article(group))
        general = not words or (is_general(words) and not meant)
        if group.called or general:
            return not general
        if is_attribute(words) or is_surroundings(words):
            return False
        persons = any(counts_persons(self.evidence(self.tags[i].name)) for i in group.tags)
        return not self._candidates.single or has_class(words) or persons

    def _after_article(self, group: Subject) -> bool:
        """Whether the group's first tag stands between an article and a noun: "a <tag> hat"."""
        before = self.base.text[: self._words.before(group.start)].split()
        return bool(before) and before[-1].casefold().strip("([") in ARTICLES

    def _placed(self, group: Subject, words: str, offsets: tuple[int, ...], source: WordsSource) -> Subject:
        """The group with the words at the given place."""
        group.words, group.offsets, group.words_source = words, offsets, source
        occurrences = find_words(self.base, words)
        group.occurrence = next((i for i, at in enumerate(occurrences, 1) if at[0] == offsets[0]), 1)
        return group

    def _is_known(self, group: Subject, words: str) -> bool:
        """Whether words are those of a LoRA's name, training tags or activation text."""
        found = [compact(one.words) for i in group.tags for one in self._candidates_of(self.tags[i].name)]
        return compact(words) in found

    def _candidates_of(self, name: str) -> list[Candidate]:
        if name not in self._of:
            self._of[name] = self._candidates.of(name, self.evidence(name))
        return self._of[name]

    def _directly_before(self, group: Subject, earlier: Sequence[Subject], *, comma: bool, sure: bool) -> list[Subject]:
        """The group, if words by name or trigger stand directly before it; tags that do not have them are split off."""
        at = self._words.before(group.start)
        own: dict[int, Candidate] = {}
        for i in group.tags:
            name = self.tags[i].name
            one = self._candidates.directly_before(at, name, self.evidence(name), comma=comma, sure=sure and not comma)
            if one is not None and (self._sharing[one.key] < 2 or self._may_be_shared(one, self._sharing[one.key])):
                own[i] = one
        first = next(iter(own.values()), None)
        return self._split_off(group, list(own), self._unclaimed(group, first, earlier)) if first is not None else []

    def _class_before(self, group: Subject, earlier: Sequence[Subject]) -> list[Subject]:
        if len({self.tags[i].name for i in group.tags}) > 1:
            return [group]  # the noun may be any tag's
        one = self._candidates.class_before(self._words.before(group.start))
        found = self._unclaimed(group, one, earlier) if one is not None else None
        return self._split_off(group, group.tags[:1], found) or [group]

    def _split_off(self, group: Subject, own: list[int], found: Subject | None) -> list[Subject]:
        """The group `found` with the tags `own` and those of the same LoRAs, and one without words for the others."""
        if found is None:
            return []
        names = {self.tags[i].name for i in own}
        rest = [i for i in group.tags if self.tags[i].name not in names]
        found.tags = [i for i in group.tags if i not in rest]
        return [found, Subject(rest, group.start, group.after)] if rest else [found]

    def _unclaimed(self, group: Subject, one: Candidate, earlier: Sequence[Subject]) -> Subject | None:
        """The group with the candidate's words, unless an earlier tag stands before them and has them."""
        for offsets in find_words(self.base, one.words):
            if self.base.offsets[one.window.start] in offsets:
                if any(set(offsets) & set(other.offsets) for other in earlier):
                    return None
                return self._placed(group, one.words, offsets, WordsSource.BEFORE)
        return None

    def _by_evidence(self, group: Subject) -> list[Subject]:
        """The group's tags by the words that each of them has; the last group has those without any."""
        found: dict[str, Subject] = {}
        rest: list[int] = []
        for i in group.tags:
            best = self._best(self.tags[i].name) or self._candidates.after_comma(
                self._words.before(group.after), self.tags[i].name
            )
            if best is None:
                rest.append(i)
                continue
            own = found.setdefault(same_words(best.words), Subject([], group.start, group.after, called=group.called))
            own.tags.append(i)
            own.words, own.words_source = best.words, best.source
        alone = not found and group.called
        return [*found.values(), *([Subject(rest, group.start, group.after, called=alone)] if rest else [])]

    def _best(self, name: str) -> Candidate | None:
        """The first candidate that no other LoRA of the prompt shares, or else one that occurs often enough."""
        own = self._candidates_of(name)
        alone = next((one for one in own if self._sharing[one.key] < 2), None)
        if alone is not None:
            return alone
        return next((one for one in own if self._may_be_shared(one, self._sharing[one.key])), None)

    @cached_property
    def _sharing(self) -> Counter[str]:
        """How many LoRAs of different characters have a candidate, by its key."""
        stems = {_stem(tag.name): tag.name for tag in self.tags if tag.role is Role.CONCEPT and not tag.without_lora}
        return Counter(key for other in stems.values() for key in {one.key for one in self._candidates_of(other)})

    def _may_be_shared(self, one: Candidate, loras: int) -> bool:
        if one.source is not WordsSource.ACTIVATION and not has_class(one.words):
            return False
        return len(find_words(self.base, one.words)) >= loras


def _stem(name: str) -> tuple[str, ...]:
    return name_parts(name) or (name,)
