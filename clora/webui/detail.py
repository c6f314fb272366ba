"""The detail pass: each subject of a finished picture is drawn again alone, in a crop, with its own LoRA and words.

The host draws the crop. With look guidance CLoRA composes the one subject in all of it, so that its look is as strong
as in the picture; otherwise the host applies the LoRA by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import CLoRAError, cut
from ..hosts import host_api
from ..hosts.controlnet import without_hints
from ..hosts.detail_render import Redraw, between_passes, redraw, stopped
from ..pictures.detail_area import crop_of, detail_area, touched, without_specks
from ..prompt import Composition, Concept, WordsOverride, analyze
from ..prompt.alone import prompt_alone
from ..settings import Settings
from ..ui.request import Request
from .job import Generation
from .shown import Drawn

_LEAST = 0.002
"""Part of the picture below which a mask is no subject."""
_EVERYWHERE = "0 0 100 100"
_ALONE: dict[str, Any] = {
    "look_ahead": 0.0, "own_places": 0.0, "update_until": 0.0, "stress": 1.0, "fuse_from": 0.0, "hint_masks": "replace",
    "compose_until": 1.0, "fusion": "single-pass", "shared_uncond": False, "variants_every": 1, "detail": False,
    "show_masks": False, "show_maps": False, "show_loss": False, "show_merge": False, "preview_masks": False,
}  # fmt: skip
"""Settings of the job that draws one subject: it is everywhere, so there is nothing to place, to cut or to show."""
NO_MASKS = "The detail pass was left out because this picture has no masks: choose the method clora."


def add_detail(p: Any, pp: Any, generation: Generation, composing: Callable[[Request], Any]) -> None:
    """Draw the subjects of the host's picture `pp.image` again, once, before the host saves it.

    `composing` gives an always-visible script that composes an inner job by a request. What was drawn when the user
    interrupts, or when a pass fails, is kept.
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
    passes = _passes(p, pp.image.size, drawn, generation, composing)
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


def _passes(
    p: Any, size: tuple[int, int], drawn: Drawn, generation: Generation, composing: Callable[[Request], Any]
) -> list[tuple[Concept, Redraw]]:
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
        text = prompt_alone(drawn.composition, number)
        request = request_alone(text, drawn.composition, concept, settings)
        redrawn = Redraw(
            text, settings.detail_steps or p.steps, settings.detail_strength, area, touched(area), crop.padding,
            crop.width, crop.height, () if request is None else (composing(request),),
        )  # fmt: skip
        found.append((concept, redrawn))
    return found


def request_alone(text: str, composition: Composition, concept: Concept, settings: Settings) -> Request | None:
    """What composes the one concept of a `prompt_alone` in the whole picture, None where the host draws it itself."""
    if settings.look_guidance == 1.0 or not concept.loras:
        return None
    roles = {"style": (*concept.styles, *composition.styles), "off": composition.off}
    rows = {use.name: WordsOverride(role=role) for role, uses in roles.items() for use in uses}
    own = WordsOverride(words=concept.words, role="concept", place=_EVERYWHERE)
    rows.update({use.name: own for use in concept.loras})
    try:
        composes = analyze(text, overrides=rows, drop_other_tags=True).composes
    except CLoRAError:
        return None
    return Request(settings.replace(**_ALONE), rows) if composes else None


def _too_small(concept: Concept) -> str:
    return f"The detail pass of {concept.quoted} was left out: its mask covers less than {_LEAST:.1%} of the picture."


def _failed(concept: Concept, error: Exception) -> str:
    why = cut(f"{type(error).__name__}: {error}")
    return f"The detail pass of {concept.quoted} failed, so it was left out ({why})."
