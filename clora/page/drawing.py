"""The result of a job as the page shows it: pictures, settings, summary and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..engine.record import NO_LOSS
from ..hosts.diffusers.display import concept_labels, overlay_of, parameters
from ..pictures import loss_curve, map_strip
from ..settings.infotext import CORRECTIONS
from ..ui.corrections import masks_field, write_corrections
from .engine import Drawn, Job
from .markup import Figure, result_html

MERGE = "plain merge"
PLAN = "plan"
INACTIVE = "without CLoRA"


def result_of(job: Job, drawn: Sequence[Drawn]) -> str:
    """The HTML of the pictures drawn so far."""
    figures = [figure for one in drawn for figure in _figures(job, one)]
    pictures = [_picture(job, one) for one in drawn]
    compared = (pictures[1], pictures[0]) if len(drawn) == 2 else None
    return result_html(figures, _text(job, drawn[0]), compared)


def summary_of(job: Job, drawn: Sequence[Drawn], seconds: float) -> tuple[str, tuple[str, ...]]:
    """The summary line of a finished job, and its notes and warnings."""
    asked_for = [one for one in drawn if not one.merged] or drawn  # plain merge beside it is only for comparison
    notes = tuple(dict.fromkeys(note for one in asked_for for note in one.composed.warnings))
    if job.settings.show_loss and drawn[0].composes and not drawn[0].record.curve(0).losses:
        notes = (*notes, NO_LOSS)
    random = " (random)" if job.seed < 0 else ""
    return f"Done in {seconds:.0f} s. Seed {drawn[0].composed.seeds[0]}{random}.", notes


def _text(job: Job, drawn: Drawn) -> str:
    """The parameters of one picture; those of plain merge say so, whatever method the job asks for."""
    composed = drawn.composed
    if drawn.merged:
        composed = replace(composed, settings=composed.settings.replace(method="merge"))
    corrections = write_corrections(job.painted)
    return parameters(composed, job.session.model, more={CORRECTIONS: corrections} if corrections else {})


def _picture(job: Job, drawn: Drawn) -> Figure:
    image, text = drawn.composed.images[0], _text(job, drawn)
    method = {"clora": "CLoRA", "merge": MERGE}.get(drawn.composed.settings.method, drawn.composed.settings.method)
    method = PLAN if job.only_plans else method if drawn.composes else INACTIVE
    return Figure(image, method, f"{method.replace(' ', '-').lower()}-{drawn.composed.seeds[0]}.png", text)


def _figures(job: Job, drawn: Drawn) -> list[Figure]:
    """The picture, and the overlay, maps and loss curve if they are asked for."""
    composed, settings, record = drawn.composed, job.settings, drawn.record
    picture = _picture(job, drawn)
    image, stem = picture.image, picture.name.removesuffix(".png")
    figures = [picture]
    overlay = overlay_of(composed)
    if settings.show_masks and overlay is not None:
        names = [concept.corrected_as for concept in composed.compositions[0].concepts]
        masks = composed.masks[0]
        assert masks is not None
        text = picture.text + masks_field(names, masks)
        caption = "where each LoRA will draw" if job.only_plans else "where each LoRA drew"
        figures.append(Figure(overlay, caption, f"{stem}-masks.png", text))
    maps = record.strip(0)
    if settings.show_maps and maps and overlay is not None:
        strip = map_strip(maps, concept_labels(composed), composed.compositions[0].variant_names, image.size)
        figures.append(Figure(strip, "maps of each variant", f"{stem}-maps.png"))
    curve = record.curve(0)
    if settings.show_loss and curve.losses:
        figures.append(Figure(loss_curve(curve.losses, curve.refined), "loss", f"{stem}-loss.png"))
    return figures
