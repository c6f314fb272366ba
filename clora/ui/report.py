"""What a prompt composes, as data for the panel's table and for the API's `analyze` route."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import CLoRAError
from ..lora.user_metadata import LoraNotes
from ..prompt import Composition, LoraUse, PromptTokens, ResolvedText, WordsOverride, analyze, read_tags
from ..prompt.evidence import EvidenceSource
from ..prompt.tag_roles import roles_of_tags

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
    why: str = ""
    """Where the role and the words come from: "the text after the tag", "its name says "style""."""
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
    evidence: EvidenceSource | None = None, check: Callable[[Composition], Sequence[str]] | None = None,
    layout: Layout | None = None, notes_of: Callable[[str], LoraNotes] | None = None,
) -> Report:  # fmt: skip
    """Read a prompt for the panel or the API. There is a row for every LoRA, also if there is a problem.

    `evidence` is what is known about LoRAs, `check` returns further notes and raises CLoRAError for further errors,
    `layout` gives the token positions of a text (None if no model is loaded), `notes_of` the user's notes about a LoRA.
    """
    try:
        composition = analyze(prompt, negative, evidence=evidence, overrides=corrections, drop_other_tags=True)
        further = check(composition) if check is not None else ()
        rows = _rows(composition, layout)
    except CLoRAError as error:
        return Report(False, tuple(_rows_of_tags(prompt, corrections, evidence)), problem=str(error))
    fixed = _fixed_by_tags(prompt)
    found = [replace(row, fixed=fixed.get(row.lora, ())) for row in rows]
    rows = [_with_offer(row, composition.text, notes_of) for row in found]
    notes = (*((composition.note,) if composition.note else ()), *composition.warnings)
    return Report(
        composition.composes,
        tuple(rows),
        tuple(variant.text for variant in composition.variants),
        (*notes, *further, *_preferred_weights(rows, notes_of)),
    )


def _rows_of_tags(
    prompt: str, corrections: Mapping[str, WordsOverride] | None, evidence: EvidenceSource | None
) -> Iterator[ReportRow]:
    """A row for every LoRA of a prompt that cannot be composed: what its tag, its row and the evidence say of it."""
    fixed = _fixed_by_tags(prompt)
    for tag, why in roles_of_tags(prompt, evidence, corrections):
        row = (corrections or {}).get(tag.name, WordsOverride())
        role = tag.role.value + (tag.role_words or "")
        words = re.sub(r"#(\d+)$", r" (\1.)", tag.words or row.words or "")
        use = LoraUse(tag.name, tag.te, tag.unet)
        place = tag.region.text if tag.region else ""
        yield replace(_row(use, role, words, tag.trigger or "", (), place, why), fixed=fixed.get(tag.name, ()))


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
    for tag in read_tags(prompt)[0]:
        given = {"words": tag.words, "trigger": tag.trigger_given, "role": tag.role_given, "place": tag.region}
        fixed[tag.name] = (*fixed.get(tag.name, ()), *(key for key, value in given.items() if value))
    return fixed


def _rows(composition: Composition, layout: Layout | None) -> list[ReportRow]:
    rows: list[ReportRow] = []
    reasons = dict(composition.reasons)
    variant = composition.variants[0]
    found = layout(ResolvedText.whole(variant.text)) if layout is not None and any(variant.subjects) else None
    for number, concept in enumerate(composition.concepts):
        tokens = found.positions(variant.subjects[number]) if found is not None else ()
        words = concept.words + (f" ({concept.occurrence}.)" if concept.occurrence > 1 else "")
        place = concept.region.text if concept.region else ""
        why = concept.words_source.value if concept.words_source else ""
        rows += [_row(use, "concept", words, ", ".join(concept.triggers), tokens, place, why) for use in concept.loras]
        rows += [_row(use, f"style@{concept.words}", words, "", tokens) for use in concept.styles]
    for role in ("style", "background", "off"):
        uses = {"style": composition.styles, "background": composition.background, "off": composition.off}[role]
        rows += [_row(use, role, "", "", (), why=reasons.get(use.name, "")) for use in uses]
    return rows


def _row(
    use: LoraUse, role: str, words: str, trigger: str, tokens: tuple[int, ...], place: str = "", why: str = ""
) -> ReportRow:
    return ReportRow(use.name, use.te, use.unet, role, words, trigger, tokens, place, why=why)
