"""The detail pass: each subject of a finished picture is drawn again alone, in a crop, with its own LoRA and words."""

from __future__ import annotations

from typing import Any

from ..errors import cut
from ..hosts import host_api
from ..hosts.controlnet import without_hints
from ..hosts.detail_render import Redraw, between_passes, redraw, stopped
from ..pictures.detail_area import crop_of, detail_area, touched, without_specks
from ..prompt import Concept
from ..prompt.alone import prompt_alone
from .job import Generation
from .shown import Drawn

_LEAST = 0.002
"""Part of the picture below which a mask is no subject."""
NO_MASKS = "The detail pass was left out because this picture has no masks: choose the method clora."


def add_detail(p: Any, pp: Any, generation: Generation) -> None:
    """Draw the subjects of the host's picture `pp.image` again, once, before the host saves it.

    What was drawn when the user interrupts, or when a pass fails, is kept.
    """
    settings, number = generation.request.settings, int(p.iteration) * p.batch_size + int(p.batch_index)
    if not settings.detail or number in generation.detailed:
        return
    generation.detailed.add(number)
    drawn = generation.of_batch(int(p.batch_index))
    if drawn is None or stopped():
        return
    if drawn.shown.masks is None:
        generation.notes.append(NO_MASKS)
        return
    pp.image = pp.image.convert("RGB")
    passes = _passes(p, pp.image.size, drawn, generation)
    if not passes:
        return
    with between_passes(p, len(passes)), without_hints(p):
        for count, (concept, wanted) in enumerate(passes, start=1):
            host_api.show_progress(f"CLoRA: detail of {concept.words} ({count} of {len(passes)})")
            try:
                pp.image = redraw(p, number, pp.image, wanted) or pp.image
            except Exception as error:
                host_api.log_error("A detail pass of CLoRA failed")
                generation.notes.append(_failed(concept, error))
            if stopped():
                break


def _passes(p: Any, size: tuple[int, int], drawn: Drawn, generation: Generation) -> list[tuple[Concept, Redraw]]:
    """What is drawn again, in the prompt's order; `size` is the picture's."""
    settings = generation.request.settings
    assert drawn.shown.masks is not None
    masks, found = without_specks(drawn.shown.masks[1:]), []
    for number, concept in enumerate(drawn.composition.concepts):
        if float(masks[number].mean()) < _LEAST:
            generation.notes.append(_too_small(concept))
            continue
        area = detail_area(masks, number, size)
        crop = crop_of(area, settings.detail_size or max(p.width, p.height))
        redrawn = Redraw(
            prompt_alone(drawn.composition, number), settings.detail_steps or p.steps, settings.detail_strength,
            area, touched(area), crop.padding, crop.width, crop.height,
        )  # fmt: skip
        found.append((concept, redrawn))
    return found


def _too_small(concept: Concept) -> str:
    return f"The detail pass of {concept.quoted} was left out: its mask covers less than {_LEAST:.1%} of the picture."


def _failed(concept: Concept, error: Exception) -> str:
    why = cut(f"{type(error).__name__}: {error}")
    return f"The detail pass of {concept.quoted} failed, so it was left out ({why})."
