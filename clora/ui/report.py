"""What a prompt composes, as data for the panel's table and for the API's `analyze` route."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import CLoRAError
from ..lora.user_metadata import LoraNotes
from ..prompt import Composition, LoraUse, PromptTokens, ResolvedText, WordsOverride, analyze, parse_tags
from ..prompt.analysis import ActivationText

COLUMNS = ("LoRA", "Weight", "Role", "Subject words", "Trigger words", "Place", "Tokens")
Layout = Callable[[ResolvedText], PromptTokens]


@dataclass(frozen=True)
class ReportRow:
    """One LoRA of the prompt: its strengths, role and words, and the token positions of the words."""

    lora: str
    te: float
    unet: float
    role: str
    words: str
    trigger: str
    tokens: tuple[int, ...]
    place: str = ""
    fixed: tuple[str, ...] = ()
    """Fields that the tag itself sets ("words", "trigger", "role", "place"), so that corrections do not change them."""
    offered: str = ""
    """The user's activation text for the LoRA, if it has no trigger words and the prompt does not contain the text."""

    @property
    def weight(self) -> str:
        """Both strengths, as one number if they are equal."""
        return f"{self.unet:g}" if self.te == self.unet else f"te {self.te:g}, unet {self.unet:g}"

    @property
    def typed_words(self) -> str:
        """The subject words as a correction takes them: "cat#2" for the second cat."""
        return re.sub(r" \((\d+)\.\)$", r"#\1", self.words)


@dataclass(frozen=True)
class Report:
    """What one prompt composes; `problem` is the error that a generation would end with, "" if there is none."""

    composes: bool
    rows: tuple[ReportRow, ...] = ()
    variants: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """The answer of the API."""
        return {**asdict(self), "rows": [_row_json(row) for row in self.rows]}


def _row_json(row: ReportRow) -> dict[str, Any]:
    """A row with its words as a correction takes them, so that a client can send them back."""
    return {**asdict(row), "words": row.typed_words, "tokens": list(row.tokens), "fixed": list(row.fixed)}


def report(
    prompt: str, negative: str = "", *, corrections: Mapping[str, WordsOverride] | None = None,
    activation_text: ActivationText | None = None, check: Callable[[Composition], None] | None = None,
    layout: Layout | None = None, notes_of: Callable[[str], LoraNotes] | None = None,
) -> Report:  # fmt: skip
    """Read a prompt for the panel or the API.

    `check` raises CLoRAError for further errors, `layout` gives the token positions (None if no model is loaded), and
    `notes_of` the user's notes about a LoRA.
    """
    try:
        composition = analyze(
            prompt, negative, activation_text=activation_text, overrides=corrections, drop_other_tags=True
        )
        if check is not None:
            check(composition)
        fixed = _fixed_by_tags(prompt)
        known = composition if composition.composes else _with_words(composition, corrections, activation_text)
        found = [replace(row, fixed=fixed.get(row.lora, ())) for row in _rows(known, layout)]
        rows = tuple(_with_offer(row, composition.text, notes_of) for row in found)
    except CLoRAError as error:
        return Report(False, problem=str(error))
    notes = (composition.note,) if composition.note else composition.warnings
    return Report(
        composition.composes,
        rows,
        tuple(variant.text for variant in composition.variants),
        (*notes, *_preferred_weights(rows, notes_of)),
    )


def _with_offer(row: ReportRow, text: str, notes_of: Callable[[str], LoraNotes] | None) -> ReportRow:
    """The row with the activation text as a possible trigger, unless it is in the prompt, which all variants read."""
    if notes_of is None or row.role != "concept" or row.trigger or "trigger" in row.fixed:
        return row
    words = notes_of(row.lora).activation
    present = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", " ".join(text.split()), re.IGNORECASE)
    return row if present else replace(row, offered=words)


def _preferred_weights(rows: Sequence[ReportRow], notes_of: Callable[[str], LoraNotes] | None) -> list[str]:
    weights = {row.lora: row.unet for row in rows}
    return [
        f'Your notes for the LoRA "{lora}" recommend the weight {notes_of(lora).weight:g}; the prompt has {weight:g}.'
        for lora, weight in weights.items()
        if notes_of is not None and notes_of(lora).weight > 0 and abs(notes_of(lora).weight - weight) > 1e-6
    ]


def _fixed_by_tags(prompt: str) -> dict[str, tuple[str, ...]]:
    """The fields that the tags of each LoRA set."""
    fixed: dict[str, tuple[str, ...]] = {}
    for tag in parse_tags(prompt):
        given = {"words": tag.words, "trigger": tag.trigger_given, "role": tag.role_given, "place": tag.region}
        fixed[tag.name] = (*fixed.get(tag.name, ()), *(key for key, value in given.items() if value))
    return fixed


_SECOND = "another subject"
"""Words and LoRA name of the concept that `_with_words` adds."""


def _with_words(
    composition: Composition, corrections: Mapping[str, WordsOverride] | None, activation_text: ActivationText | None
) -> Composition:
    """A composition of a single concept with the words of this concept, which are only searched for in several.

    A second concept is added for the search. Returns the composition unchanged if no words are found.
    """
    if len(composition.concepts) != 1 or composition.concepts[0].words:
        return composition

    def texts(name: str) -> Sequence[str]:
        if name == _SECOND or activation_text is None:
            return ()
        return activation_text(name) if callable(activation_text) else activation_text.get(name, ())

    prompt = f"{composition.source}, <lora:{_SECOND}:1:words={_SECOND}> {_SECOND}"
    try:
        both = analyze(prompt, activation_text=texts, overrides=corrections, drop_other_tags=True)
    except CLoRAError:
        return composition
    if len(both.concepts) != 2:
        return composition
    words = replace(composition.concepts[0], words=both.concepts[0].words, occurrence=both.concepts[0].occurrence)
    return replace(composition, concepts=(words,), variants=both.variants[:1])


def _rows(composition: Composition, layout: Layout | None) -> list[ReportRow]:
    rows, variant = [], composition.variants[0]
    found = layout(ResolvedText.whole(variant.text)) if layout is not None and any(variant.subjects) else None
    for number, concept in enumerate(composition.concepts):
        tokens = found.positions(variant.subjects[number]) if found is not None else ()
        words = concept.words + (f" ({concept.occurrence}.)" if concept.occurrence > 1 else "")
        place = concept.region.text if concept.region else ""
        rows += [_row(use, "concept", words, ", ".join(concept.triggers), tokens, place) for use in concept.loras]
        rows += [_row(use, f"style@{concept.words}", words, "", tokens) for use in concept.styles]
    for role in ("style", "background", "off"):
        uses = {"style": composition.styles, "background": composition.background, "off": composition.off}[role]
        rows += [_row(use, role, "", "", ()) for use in uses]
    return rows


def _row(use: LoraUse, role: str, words: str, trigger: str, tokens: tuple[int, ...], place: str = "") -> ReportRow:
    return ReportRow(use.name, use.te, use.unet, role, words, trigger, tokens, place)
