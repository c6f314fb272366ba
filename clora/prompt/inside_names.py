"""Words of a prompt that stand inside a LoRA's name without signs around them: "cat" in "blackcat"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from .names import PromptWords, Window, first_and_last
from .role_words import CLASSES
from .text import in_one_word


class InsideNames:
    """Finds them in one prompt: nouns of subjects, and words of scripts without spaces between words."""

    def __init__(self, words: PromptWords) -> None:
        self._words = words

    def of(self, name: str, parts: Sequence[str]) -> list[Window]:
        """Where words stand that are in a name, whose parts are given, in the order of the prompt."""
        found = [
            window
            for word, windows in self._nouns.items()
            if any(part.endswith(word) and len(part) > len(word) + 2 for part in parts)
            for window in windows
        ]
        low = name.casefold()
        found += [
            window
            for first in set(low)
            for word, windows in self._unspaced.get(first, {}).items()
            if word in low
            for window in windows
        ]
        return sorted(found)

    @cached_property
    def _nouns(self) -> dict[str, list[Window]]:
        return self._places(lambda word: word.casefold() in CLASSES)

    @cached_property
    def _unspaced(self) -> dict[str, dict[str, list[Window]]]:
        """By their first character."""
        found: dict[str, dict[str, list[Window]]] = {}
        for word, windows in self._places(lambda word: not in_one_word(word[0], word[0])).items():
            found.setdefault(word[0], {})[word] = windows
        return found

    def _places(self, wanted: Callable[[str], bool]) -> dict[str, list[Window]]:
        text, found = self._words.base.text, dict[str, list[Window]]()
        for span, item in self._words.tokens:
            word = text[span.start : span.end]
            if wanted(word):
                found.setdefault(word.casefold(), []).append(Window(span.start, span.end, item))
        return {word: first_and_last(windows) for word, windows in found.items()}
