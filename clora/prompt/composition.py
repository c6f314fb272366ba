"""The result of reading a prompt: concepts, styles, background and variants."""

from __future__ import annotations

from dataclasses import dataclass

from ..lora.use import LoraUse
from .region import Painted, Region
from .subjects import WordsSource
from .text import Span


@dataclass(frozen=True)
class WordsOverride:
    """The panel's row for one LoRA. What its tag says comes first.

    All values are written as in the tag, except `painted`, a region that no tag can describe. `nothing_painted` is
    true if it was given without anything painted, which is ignored with a note.
    """

    words: str | None = None
    trigger: str | None = None
    role: str | None = None
    place: str | None = None
    painted: Painted | None = None
    say: str | None = None
    nothing_painted: bool = False


@dataclass(frozen=True)
class Concept:
    """One subject: its LoRAs, its words in the prompt, its trigger words, and the styles on it alone.

    `occurrence` counts the words in the prompt from 1; `words_source` tells where they were found. `region` is where
    the user wants the subject, `say` are the words that only its own variant reads. Without `loras` it has words and a
    region only.
    """

    loras: tuple[LoraUse, ...]
    words: str
    occurrence: int
    words_source: WordsSource | None
    triggers: tuple[str, ...]
    styles: tuple[LoraUse, ...]
    region: Region | None = None
    say: str = ""

    @property
    def corrected_as(self) -> str:
        """The name that corrections give it: its first LoRA, or its words without one."""
        return self.loras[0].name if self.loras else self.words

    @property
    def label(self) -> str:
        """Words and LoRA names, for labels on images: "sks person (genie)"."""
        return f"{self.words} ({self.names})" if self.loras else self.words

    @property
    def quoted(self) -> str:
        """Words and LoRA names, for messages: '"sks person" (genie)'."""
        return f'"{self.words}" ({self.names})' if self.loras else f'"{self.words}"'

    @property
    def names(self) -> str:
        """The names of its LoRAs: "knight + armor"; of a subject without a LoRA its words."""
        return " + ".join(use.name for use in self.loras) or self.words


@dataclass(frozen=True)
class Variant:
    """The prompt with one concept's LoRAs on (variant 0 is the base, with the background's).

    `loras` does not list the global styles. `subjects[g]` are the character spans in `text` of concept g's words,
    `triggers` those of the trigger words of this variant's own concept, `others` those of the subjects that no LoRA
    draws and no tag names. `late` are styles among `loras` that join in later, on a subject with a look of its own.
    """

    text: str
    negative: str
    loras: tuple[LoraUse, ...]
    subjects: tuple[tuple[Span, ...], ...]
    triggers: tuple[Span, ...]
    others: tuple[tuple[Span, ...], ...] = ()
    late: tuple[LoraUse, ...] = ()


@dataclass(frozen=True)
class Composition:
    """A prompt, read. `note` says why CLoRA is inactive for it (`composes` is false); otherwise it is empty.

    `text` is the base variant's text, without LoRA tags. `host_text` is the prompt that the host continues with:
    tags of concepts, subject styles and background are removed, those of global styles and role=off stay for the
    host to load; if CLoRA is inactive, it is the unchanged prompt. `merged` is what a host renders without
    composition: one text with every trigger, and every LoRA on at once.
    """

    source: str
    text: str
    host_text: str
    negative: str
    concepts: tuple[Concept, ...]
    styles: tuple[LoraUse, ...]
    background: tuple[LoraUse, ...]
    off: tuple[LoraUse, ...]
    variants: tuple[Variant, ...]
    merged: Variant
    warnings: tuple[str, ...] = ()
    note: str = ""
    reasons: tuple[tuple[str, str], ...] = ()
    """LoRA name and why it is no concept, for every LoRA whose role CLoRA found itself."""

    @property
    def variant_names(self) -> tuple[str, ...]:
        """The LoRAs of each variant, for labels on images: "no LoRA", "genie", ..."""
        return ("no LoRA", *(concept.names for concept in self.concepts))

    @property
    def left(self) -> tuple[LoraUse, ...]:
        """The LoRAs that are left to the host, by role=off or by CLoRA: one without a file is no error."""
        found = dict(self.reasons)
        return (*(use for use in self.styles if use.name in found), *self.off)

    @property
    def composes(self) -> bool:
        """True if there are two or more concepts."""
        return not self.note
