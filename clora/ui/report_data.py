"""What a prompt composes, as data, and the sources that it is read from."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..lora.user_metadata import LoraNotes
from ..prompt import PromptTokens, ResolvedText
from ..prompt.evidence import EvidenceSource
from .painted_region import PAINTED, is_painted

COLUMNS = ("LoRA", "Weight", "Role", "Subject words", "Trigger words", "Own words", "Place", "Tokens")
Layout = Callable[[ResolvedText], PromptTokens]


@dataclass(frozen=True)
class ReportRow:
    """One LoRA tag of the prompt: its strengths, role and words, and the token positions of the words."""

    lora: str
    te: float
    unet: float
    role: str
    words: str
    trigger: str
    tokens: tuple[int, ...]
    place: str = ""
    fixed: tuple[str, ...] = ()
    """Fields that the tag itself sets ("words", "trigger", "role", "place", "say"): corrections do not change them."""
    corrected: tuple[str, ...] = ()
    """Fields that a correction sets."""
    why: str = ""
    """Where the role and the words come from: "from its training tags", "its name says "style"", or the problem."""
    problem: str = ""
    """What is wrong with this LoRA or its tag, "" if nothing is."""
    wrong: tuple[str, ...] = ()
    """Fields whose value cannot be used; "lora" if there is no such LoRA."""
    concept: int | None = None
    """The number of its concept from 0, for a style on one subject that of the subject."""
    by_block: bool = False
    """Whether its weight differs by block of the UNet."""
    offered: str = ""
    """The user's activation text for the LoRA, if it has no trigger words and the prompt does not contain the text."""
    say: str = ""
    """The subject's own words."""
    without_lora: bool = False
    """Whether it is a subject of a `<clora:...>` tag, whose words are in `lora`."""

    @property
    def weight(self) -> str:
        """Both strengths, as one number if they are equal; "" without a LoRA."""
        if self.without_lora:
            return ""
        one = f"{self.unet:g}" if self.te == self.unet else f"te {self.te:g}, unet {self.unet:g}"
        return f"{one}, by block" if self.by_block else one

    @property
    def typed_words(self) -> str:
        """The subject words as a correction takes them: "cat#2" for the second cat."""
        return re.sub(r" \((\d+)\.\)$", r"#\1", self.words)

    @property
    def shown_place(self) -> str:
        """The place for tables, where a painted one has no room."""
        return PAINTED if is_painted(self.place) else self.place


@dataclass(frozen=True)
class ReportChoice:
    """Words of the prompt that can be a concept's. `value` is how a correction names them: "cat#2" for the second cat.

    `loras` have exactly these words; `overlapping` are LoRAs that have a part of them, or more. `concept` is the number
    of the first of their concepts.
    """

    words: str
    value: str
    loras: tuple[str, ...] = ()
    overlapping: tuple[str, ...] = ()
    concept: int | None = None


@dataclass(frozen=True)
class Report:
    """What one prompt composes; `problem` is the error that a generation would end with, "" if there is none."""

    composes: bool
    rows: tuple[ReportRow, ...] = ()
    choices: tuple[ReportChoice, ...] = ()
    variants: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """The answer of the API."""
        return {**asdict(self), "rows": [{**asdict(row), "words": row.typed_words} for row in self.rows]}


@dataclass(frozen=True)
class Sources:
    """What a report is made from besides the prompt.

    `evidence` is what is known about LoRAs. `check` raises CLoRAError for a LoRA that does not exist, and `loads_all`
    says whether CLoRA itself loads those that are no concept too. `layout` gives the token positions (None if no model
    is loaded), `notes_of` the user's notes about a LoRA. With `alternatives`, the host may have the extension Dynamic
    Prompts, so `{a|b}` and `__name__` are drawn anew for each picture.
    """

    evidence: EvidenceSource | None = None
    check: Callable[[str], object] | None = None
    loads_all: bool = False
    layout: Layout | None = None
    notes_of: Callable[[str], LoraNotes] | None = None
    alternatives: bool = False
