"""Read a prompt for the panel's table and for the API's `analyze` route."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

from ..errors import CLoRAError
from ..lora.library import drawn_without
from ..lora.user_metadata import LoraNotes
from ..prompt import Composition, WordsOverride
from ..prompt.alternatives import drawn_note, one_possible_text
from ..prompt.analysis import compose
from ..prompt.evidence import Evidence, EvidenceSource
from ..prompt.survey import Survey, survey
from .report_data import Report, ReportRow, Sources
from .report_rows import ReportRows, with_uncertain

__all__ = ["Report", "ReportRow", "Sources", "report"]


def report(
    prompt: str, negative: str = "", *, corrections: Mapping[str, WordsOverride] | None = None,
    sources: Sources | None = None, problem: str = "",
) -> Report:  # fmt: skip
    """Read a prompt for the panel or the API. There is a row for every LoRA tag, also if there is a problem.

    `problem` is an error that was found before, such as corrections that cannot be read.
    """
    sources, given = sources or Sources(), corrections or {}
    note = drawn_note(prompt) if sources.alternatives else ""
    text = one_possible_text(prompt) if note else prompt
    known = cache(sources.evidence or (lambda name: Evidence()))
    found = survey(text, given, known, drop_other_tags=True)
    missing = cache(partial(_missing, sources))
    composition, message = _composition(found, negative, given, known)
    if composition is not None:
        message = " ".join(str(error) for name in _loaded(composition, sources) if (error := missing(name)) is not None)
    made = ReportRows(found, composition, given, sources, missing)
    rows = made.all()
    if note:
        rows = with_uncertain(prompt, text, rows)
    if problem or (message and not note):
        return Report(False, rows, made.choices(), notes=(note,) if note else (), problem=problem or message)
    if message or composition is None:  # another text of the prompt may be possible
        said = f"The text that was read cannot be composed: {message}"
        return Report(False, rows, made.choices(), notes=(note, said))
    without = [drawn_without(use, error) for use in composition.left if (error := missing(use.name)) is not None]
    weights = _preferred_weights(composition, rows, sources.notes_of)
    told = (note, composition.note, *composition.warnings, *without, *weights)
    return Report(
        composition.composes, rows, made.choices(), tuple(variant.text for variant in composition.variants),
        tuple(one for one in told if one),
    )  # fmt: skip


def _composition(
    found: Survey, negative: str, rows: Mapping[str, WordsOverride], known: EvidenceSource
) -> tuple[Composition | None, str]:
    """The composition, None if there is none, and the error that a generation would end with."""
    try:
        return compose(found, negative, rows, known), ""
    except CLoRAError as error:
        return None, str(error)


def _loaded(composition: Composition, sources: Sources) -> list[str]:
    """The LoRAs that CLoRA itself loads for a composition."""
    uses = [use for variant in composition.variants for use in variant.loras]
    if sources.loads_all:
        uses += [use for concept in composition.concepts for use in (*concept.loras, *concept.styles)]
        uses += [*composition.styles, *composition.background]
    uses = [use for use in uses if use not in composition.left]  # without a file they are left out with a note
    return list(dict.fromkeys(use.name for use in uses))


def _missing(sources: Sources, name: str) -> CLoRAError | None:
    """The error that a LoRA does not exist, None if it does."""
    try:
        if sources.check is not None:
            sources.check(name)
    except CLoRAError as error:
        return error
    return None


def _preferred_weights(
    composition: Composition, rows: Sequence[ReportRow], notes_of: Callable[[str], LoraNotes] | None
) -> list[str]:
    """Notes about LoRAs with another weight than the user's notes recommend."""
    if notes_of is None:
        return []
    weights = {row.lora: row.unet for row in rows if not row.without_lora}
    uses = [use for concept in composition.concepts for use in concept.loras]
    weights |= {use.name: use.unet for use in (*uses, *composition.styles, *composition.background, *composition.off)}
    return [
        f'Your notes for the LoRA "{lora}" recommend the weight {notes_of(lora).weight:g}; the prompt has {weight:g}.'
        for lora, weight in weights.items()
        if notes_of(lora).weight > 0 and abs(notes_of(lora).weight - weight) > 1e-6
    ]
