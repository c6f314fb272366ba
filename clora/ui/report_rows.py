"""The rows of a report: what was found about every LoRA tag of a prompt, and the words to choose from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..errors import CLoRAError
from ..prompt import Composition, LoraTag, ResolvedText, WordsOverride, read_tags
from ..prompt.alternatives import uncertain_tags
from ..prompt.choices import choices
from ..prompt.survey import Survey, TagReading
from .report_data import ReportChoice, ReportRow, Sources

IN_ALTERNATIVE = "in an alternative that is drawn at random"
Missing = Callable[[str], CLoRAError | None]
"""LoRA name -> the error that it does not exist, if it does not."""


class ReportRows:
    """The rows of one prompt, and its words to choose from."""

    def __init__(
        self, found: Survey, composition: Composition | None, corrections: Mapping[str, WordsOverride],
        sources: Sources, missing: Missing,
    ) -> None:  # fmt: skip
        self.found, self.composition, self.corrections, self.sources = found, composition, corrections, sources
        self.missing = missing
        self.readings = found.readings()
        self._fixed = _fixed_by_tags(found.prompt)

    def all(self) -> tuple[ReportRow, ...]:
        """A row for every tag that was read."""
        tokens = self._tokens()
        return tuple(self._row(reading, tokens) for reading in self.readings)

    def choices(self) -> tuple[ReportChoice, ...]:
        """The words to choose from, with the LoRAs that have them."""
        names: dict[int, list[str]] = {}
        for reading in self.readings:
            if reading.concept is not None:
                names.setdefault(reading.concept, []).append(reading.tag.name)

        def of(concepts: Sequence[int]) -> tuple[str, ...]:
            return tuple(dict.fromkeys(name for number in concepts for name in names.get(number, ())))

        return tuple(
            ReportChoice(one.words, one.value, of(one.concepts), of(one.overlapping), next(iter(one.concepts), None))
            for one in choices(self.found)
        )

    def _tokens(self) -> list[tuple[int, ...]]:
        """The token positions of every concept's words, none if no model is loaded."""
        layout, composition = self.sources.layout, self.composition
        if layout is None or composition is None or not any(composition.variants[0].subjects):
            return []
        variant = composition.variants[0]
        positions = layout(ResolvedText.whole(variant.text)).positions
        return [positions(subject) for subject in variant.subjects]

    def _row(self, reading: TagReading, tokens: Sequence[tuple[int, ...]]) -> ReportRow:
        tag, given = reading.tag, self.corrections.get(reading.tag.name, WordsOverride())
        concepts = self.composition.concepts if self.composition is not None else ()
        concept = concepts[reading.concept] if reading.concept is not None and concepts else None
        words = reading.words or (given.words or "" if reading.concept is None else "")
        if reading.occurrence > 1:
            words += f" ({reading.occurrence}.)"
        role = tag.role.value + (concept.words if concept and tag.role_words else tag.role_words or "")
        row = ReportRow(
            tag.name, tag.te, tag.unet, role, words if tag.role.value == "concept" else reading.words,
            ", ".join(concept.triggers) if concept and not tag.role_words else tag.trigger or "",
            tokens[reading.concept] if reading.concept is not None and tokens else (),
            tag.region.typed if tag.region else "", fixed=self._fixed.get(tag.name, ()),
            corrected=_corrected(given), why=reading.problem or reading.why, problem=reading.problem,
            wrong=reading.wrong,
            concept=reading.concept, by_block=bool(tag.blocks), say=tag.say or "", without_lora=tag.without_lora,
        )  # fmt: skip
        return self._with_offer(self._as_typed(self._if_missing(row), given))

    def _if_missing(self, row: ReportRow) -> ReportRow:
        """The row saying so if its LoRA does not exist."""
        error = self.missing(row.lora) if row.lora and not row.without_lora else None
        if error is None:
            return row
        return replace(row, why=str(error), problem=str(error), wrong=(*row.wrong, "lora"))

    def _as_typed(self, row: ReportRow, given: WordsOverride) -> ReportRow:
        """The row with a correction's value where it is wrong, so that it can be corrected."""
        role = given.role if "role" in row.wrong else None
        place = given.place if "place" in row.wrong else None
        return replace(row, role=role or row.role, place=place or row.place)

    def _with_offer(self, row: ReportRow) -> ReportRow:
        """The row with the activation text as a possible trigger, unless the prompt has it, which all variants read."""
        if self.sources.notes_of is None or row.role != "concept" or row.trigger or "trigger" in row.fixed:
            return row
        if row.without_lora:
            return row
        words = "" if "lora" in row.wrong else self.sources.notes_of(row.lora).activation
        text = " ".join(self.found.base.text.split())
        present = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE)
        return row if present else replace(row, offered=words)


def with_uncertain(prompt: str, text: str, rows: Sequence[ReportRow]) -> tuple[ReportRow, ...]:
    """The rows of a prompt with alternatives: those of tags that another picture may lack, or have, say so."""
    missing, absent = uncertain_tags(prompt)
    written = [text[slice(*tag.span)] for tag in read_tags(text)]
    found = list(rows)
    left = Counter(absent)
    for i, tag_text in enumerate(written[: len(found)]):
        if left[tag_text] > 0:
            left[tag_text] -= 1
            found[i] = replace(found[i], why=f"{found[i].why}; {IN_ALTERNATIVE}".removeprefix("; "))
    return (*found, *map(_uncertain_row, missing))


def _uncertain_row(tag: LoraTag) -> ReportRow:
    role = tag.role.value + (tag.role_words or "")
    place = tag.region.typed if tag.region else ""
    return ReportRow(
        tag.name, tag.te, tag.unet, role, tag.words or "", tag.trigger or "", (), place,
        fixed=_fixed_fields(tag), why=IN_ALTERNATIVE, by_block=bool(tag.blocks), say=tag.say or "",
        without_lora=tag.without_lora,
    )  # fmt: skip


def _corrected(given: WordsOverride) -> tuple[str, ...]:
    values = {key: getattr(given, key) for key in ("words", "trigger", "role", "place", "say")}
    return tuple(key for key, value in values.items() if value or (key == "place" and given.painted))


def _fixed_fields(tag: LoraTag) -> tuple[str, ...]:
    given = {"words": tag.words, "trigger": tag.trigger_given, "role": tag.role_given, "place": tag.region}
    return tuple(key for key, value in {**given, "say": tag.say is not None}.items() if value)


def _fixed_by_tags(prompt: str) -> dict[str, tuple[str, ...]]:
    """The fields that the tags of each LoRA set."""
    fixed: dict[str, tuple[str, ...]] = {}
    for tag in read_tags(prompt):
        fixed[tag.name] = (*fixed.get(tag.name, ()), *_fixed_fields(tag))
    return fixed
