"""What a prompt composes, as data: concepts, styles, background and the variants."""

from __future__ import annotations

from dataclasses import dataclass

from ..lora.use import LoraUse
from ..regions.region import Painted, Region
from .subjects import WordsRule
from .text import Span


@dataclass(frozen=True)
class WordsOverride:
    """The panel's row for one LoRA; what its tag says goes first.

    All are written as in the tag, but for `painted`, a place that no tag can say.
    """

    words: str | None = None
    trigger: str | None = None
    role: str | None = None
    place: str | None = None
    painted: Painted | None = None


@dataclass(frozen=True)
class Concept:
    """One subject: its LoRAs, its words in the prompt, its trigger words, and the styles on it alone.

    `occurrence` counts the words in the prompt from 1; `rule` tells where they were found. `words` is empty
    only where the prompt is not composed. `place` is where the user wants the subject.
    """

    loras: tuple[LoraUse, ...]
    words: str
    occurrence: int
    rule: WordsRule | None
    triggers: tuple[str, ...]
    styles: tuple[LoraUse, ...]
    place: Region | None = None

    @property
    def label(self) -> str:
        """Words and LoRA names, for pictures: "sks ball (sunball)"."""
        return f"{self.words} ({self.names})"

    @property
    def quoted(self) -> str:
        """The same for sentences: '"sks ball" (sunball)'."""
        return f'"{self.words}" ({self.names})'

    @property
    def names(self) -> str:
        """Its LoRAs: "knight + armor"."""
        return " + ".join(use.name for use in self.loras)


@dataclass(frozen=True)
class Variant:
    """The prompt with one concept's LoRAs on (0: the base, with the background's).

    `loras` are on besides the global styles. `subjects[g]` are the character spans in `text` of concept g's
    words, `triggers` those of this variant's own concept's trigger words.
    """

    text: str
    negative: str
    loras: tuple[LoraUse, ...]
    subjects: tuple[tuple[Span, ...], ...]
    triggers: tuple[Span, ...]


@dataclass(frozen=True)
class Composition:
    """A prompt, read. `note` says why it is not composed (`composes` false), empty otherwise.

    `text` is the base variant's text, without LoRA tags. `host_text` is the prompt as the host should go on
    with: tags of concepts, subject styles and background are out, those of global styles and role=off stay in
    for the host to load; where the prompt is not composed it is the prompt unchanged. `merged` is what a host
    without composition renders: one text with every trigger, and every LoRA on at once.
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

    @property
    def variant_names(self) -> tuple[str, ...]:
        """What is on in each variant, for pictures: "no LoRA", "sunball", ..."""
        return ("no LoRA", *(concept.names for concept in self.concepts))

    @property
    def composes(self) -> bool:
        """True if there are two concepts or more."""
        return not self.note
