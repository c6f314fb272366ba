"""Words of a prompt that a LoRA may draw, by its activation texts, training tags and names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .counts import asks_for_one, several_subjects
from .evidence import Evidence
from .inside_names import InsideNames
from .names import PromptWords, Window, base_name, compact, name_parts
from .phrase_before import phrase_before
from .role_words import (
    ATTRIBUTES,
    CLASSES,
    FAMILY,
    MODIFIERS,
    NO_PARTS,
    OBJECT_VERBS,
    STYLES,
    STYLES_ALONE,
    VERBS,
)
from .roles import (
    counts_persons,
    has_class,
    is_attribute,
    is_general,
    is_surroundings,
    says_style,
    too_general,
    trigger_items,
)
from .subjects import WordsSource
from .text import in_one_word
from .words import ARTICLES, JOINING

_WORD = re.compile(r"[^\W_]+")
NO_WORDS = "no words of the prompt tell what it draws"
_STYLE_OF = re.compile(r"\b(?:styles? of|(?:art|artwork|painted|painting|drawn|inspired) by|art of)\b", re.I)
_ITEM_AFTER = re.compile(r"[\s,]*([^,\n()\[\]<>:|]{1,200})(?![^,\n()\[\]<>:|])")
_NEAR = 200
"""Characters in front of words and after them that tell what they are; an item may be a whole page."""
_BETWEEN_TWO = frozenset({"and", "vs", "versus"})
_NAMED = frozenset({"named", "called", "of", "with", "between"}) | _BETWEEN_TWO


@dataclass(frozen=True)
class Candidate:
    """Words as they are in the prompt, and where they come from. `key` is what was looked for, without its signs."""

    words: str
    key: str
    source: WordsSource
    window: Window


class Candidates:
    """Finds the words of LoRAs in one prompt."""

    def __init__(self, words: PromptWords) -> None:
        self.words, self._inside_names = words, InsideNames(words)
        text = words.base.text
        self.several = several_subjects(text)
        self.single = not self.several and asks_for_one(text)

    def of(self, name: str, evidence: Evidence) -> list[Candidate]:
        """The candidates of a LoRA, the best first; only words that look like a subject."""
        found = [one for one in self._all(name, evidence) if self._is_subject(one, name, evidence)]
        first: dict[tuple[str, str], Candidate] = {}
        for one in found:
            first.setdefault((one.key, one.words), one)
        return list(first.values())

    def _all(self, name: str, evidence: Evidence) -> Iterator[Candidate]:
        for text in evidence.texts:
            for phrase in (text, *trigger_items(text)):
                if not is_general(phrase):
                    yield from self._phrase(phrase, WordsSource.ACTIVATION)
        most = max((count for _, count in evidence.tags), default=0)
        tags = [tag for tag, count in evidence.tags if 3 * count >= most and not is_general(tag)]
        parts = [part for one in (name, *evidence.names) for part in name_parts(one) if len(part) > 2]
        for tag in sorted(tags, key=lambda tag: not any(part in compact(tag) for part in parts)):
            if not is_attribute(tag) and not too_general(_lower(tag)):
                yield from self._phrase(tag, WordsSource.TRAINING)
        for one in (name, *evidence.names):
            yield from self._by_name(one)

    def _phrase(self, phrase: str, source: WordsSource) -> Iterator[Candidate]:
        for window in self.words.find(phrase):
            yield self._candidate(window, source)

    def _by_name(self, name: str) -> Iterator[Candidate]:
        parts = name_parts(name)
        if parts and parts[-1] in ATTRIBUTES:  # "wizard_hat" is no wizard
            return
        # "person_1" beside "person_2": the number is a part of the name.
        whole = self.words.find(base_name(name)) if re.search(r"\d", base_name(name)) and parts else []
        yield from (self._candidate(window, WordsSource.NAME) for window in whole)
        for run, windows in self.words.runs_of(parts):
            if too_general(run) or (len(run) == 1 and not _names_something(run[0])):
                continue
            for window in windows:
                yield self._candidate(window, WordsSource.NAME)
        for noun in (noun for part in parts for noun in FAMILY.get(part, ())):
            for window in self.words.find(noun):
                yield self._candidate(window, WordsSource.NAME)
        for window in self._inside_names.of(name, parts):
            yield self._candidate(window, WordsSource.NAME)

    def _candidate(self, window: Window, source: WordsSource) -> Candidate:
        key = compact(self.words.words(window))
        window = self._item(self.words.whole(window))
        return Candidate(self.words.words(window), key, source, window)

    def _item(self, window: Window) -> Window:
        """The whole comma item, if it is a short tag: "hatsune miku" for "miku"."""
        if len(self.words.tokens_of(window.item)) > 3:
            return window
        item = self.words.items[window.item]
        text = self.words.base.text
        own = _lower(text[window.start : window.end])
        every = _lower(text[item.start : item.end])
        rest = [word for word in every if word not in own]
        if not rest or (len(own) == 1 and own[0] in CLASSES) or any(_no_part_of_tag(word) for word in rest):
            return window
        spans = self.words.tokens_of(window.item)
        return self.words.whole(Window(min(window.start, spans[0].start), max(window.end, spans[-1].end), window.item))

    def _is_subject(self, one: Candidate, name: str, evidence: Evidence) -> bool:
        """Whether the words look like a subject, not like a style's trigger or a part of a subject."""
        if not one.words or is_general(one.words) or is_attribute(one.words) or says_style(one.words):
            return False
        own = _lower(one.words)
        by_style = one.source is WordsSource.NAME and any(word in STYLES_ALONE for word in own)
        if is_surroundings(one.words) or (by_style and not has_class(one.words)):
            return False
        text, (start, end, number) = self.words.base.text, one.window
        in_front = text[max(self.words.items[number].start, start - _NEAR) : start]
        before, after = _lower(in_front), _lower(text[end : self._end_with_tags(number, end + _NEAR)])
        if _STYLE_OF.search(in_front):
            return False
        if after and (after[0] in STYLES or after[0] in ATTRIBUTES or after[0] == "art"):
            return False
        if self.several or has_class(one.words) or (before and before[-1] in ARTICLES | _NAMED):
            return True
        if any(word in CLASSES for word in (*before[-2:], *after[:1])):
            return True
        if (after and after[0] in OBJECT_VERBS | VERBS) or (before and before[-1] in OBJECT_VERBS):
            return True
        if len(after) > 1 and after[0] in _BETWEEN_TWO and not says_style(after[1]):
            return True
        if self.single:
            return False
        return counts_persons(evidence) or (one.source is WordsSource.NAME and self._full_name(one, name))

    def _end_with_tags(self, number: int, most: int) -> int:
        """Where an item ends, if tags do not end it, or `most` if that is before."""
        items = self.words.items
        while number + 1 < len(items) and items[number].end == items[number + 1].start and items[number].end < most:
            number += 1
        return min(items[number].end, most)

    def _full_name(self, one: Candidate, name: str) -> bool:
        """Whether two or more parts of the name stand in the words."""
        return sum(part in one.key for part in set(name_parts(name)) if len(part) > 1) > 1

    def why_none(self, name: str, evidence: Evidence) -> str:
        """Why a LoRA has no candidate."""
        one = next(self._all(name, evidence), None)
        return f'"{one.words}" may be a style or a part of a subject' if one is not None else NO_WORDS

    def directly_before(
        self, at: int, name: str, evidence: Evidence, *, comma: bool, sure: bool = False
    ) -> Candidate | None:
        """The words by name or trigger that end directly before the character `at`, or before a comma there.

        `sure`: other evidence tells that the words before it are the subject.
        """
        text = self.words.base.text
        signs = r"[\s()\[\],]*" if comma else r"[\s()\[\]]*"
        for one in self._all(name, evidence):
            if one.window.end <= at and re.fullmatch(signs, text[one.window.end : at]):
                by_name = one.source is WordsSource.NAME and not self.single and not is_general(one.words)
                if self._is_subject(one, name, evidence) or (by_name and (sure or one.words[0].isupper())):
                    return one
        return None

    def class_before(self, at: int) -> Candidate | None:
        """The phrase with a noun of subjects in front of the character `at`, without what it wears or has."""
        window = phrase_before(self.words, at, self.several)
        return self._of_window(window, WordsSource.BEFORE) if window is not None else None

    def _of_window(self, window: Window, source: WordsSource) -> Candidate:
        words = self.words.words(window)
        return Candidate(words, compact(words), source, window)

    def after_comma(self, at: int, name: str) -> Candidate | None:
        """The item after a tag and a comma, if the name begins with it: "t_n" of "T_nari"."""
        text = self.words.base.text
        match = _ITEM_AFTER.match(text, at)
        words = " ".join(match.group(1).split()) if match else ""
        plain = base_name(name).casefold()
        fits = plain.startswith(words.casefold()) or any(
            words.casefold().startswith(part) for part in name_parts(name) if len(part) > 3
        )
        if match is None or len(words) < 3 or " " in words or not fits or is_general(words):
            return None
        return self._phrase_at(match.start(1), words)

    def _phrase_at(self, start: int, words: str) -> Candidate:
        item = next(i for i, span in enumerate(self.words.items) if span.start <= start <= span.end)
        return Candidate(words, compact(words), WordsSource.NAME, Window(start, start + len(words), item))


def _lower(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(re.sub(r":[\d.]+(?=[)\]])", " ", text))]


def _no_part_of_tag(word: str) -> bool:
    """Whether a word of a comma item cannot belong to a tag that names a subject."""
    plain = ARTICLES | JOINING | _BETWEEN_TWO | VERBS | ATTRIBUTES | MODIFIERS | STYLES
    return word in plain or word.endswith("ing") or is_general(word)


def _names_something(part: str) -> bool:
    if part in NO_PARTS or part in ATTRIBUTES or part.isdecimal():
        return False
    return len(part) > 2 or not in_one_word(part[0], part[0])
