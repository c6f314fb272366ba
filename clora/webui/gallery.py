"""Pictures that CLoRA adds to the WebUI's gallery and to the API's answer, or saves as files beside the host's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from ..engine.record import NO_LOSS
from ..hosts.selectable import save_beside, saves_pictures
from ..pictures import loss_curve, map_strip, side_by_side
from ..settings import Settings
from ..ui.corrections import masks_field
from .job import Generation
from .shown import Shown


def add(processed: Any, generation: Generation, baseline: Sequence[Any] = ()) -> None:
    """Append masks, maps and loss curves to the host's pictures, each with its picture's infotext.

    `baseline` are the same pictures without CLoRA, empty if they are not shown.
    """
    for _, extra, text in list(_extras(processed, generation, baseline)):
        processed.images.append(extra)
        processed.infotexts.append(text)


def save(p: Any, processed: Any, generation: Generation, script: str, baseline: Sequence[Any] = ()) -> None:
    """Save them as files instead, with a note, because `script` builds its own result from the host's pictures."""
    found = list(_extras(processed, generation, baseline))
    wanted = f'The script "{script}" makes its result of the pictures, so masks, maps and curves are not among them'
    if found and saves_pictures(p):
        folders = [save_beside(p, number, extra, text) for number, extra, text in found]
        generation.notes.append(f"{wanted}: they are saved as files in {folders[-1]}.")
    elif found:
        generation.notes.append(f"{wanted}, nor are they saved: draw without the script to see them.")


def _extras(processed: Any, generation: Generation, baseline: Sequence[Any]) -> Iterator[tuple[int, Any, str]]:
    """(number of the picture it belongs to, picture, infotext) of each."""
    settings = generation.request.settings
    if settings.show_loss and any(shown and not shown.losses for shown in generation.shown):
        generation.notes.append(NO_LOSS)
    first = processed.index_of_first_image
    for number, shown in enumerate(generation.shown):
        if first + number >= len(processed.images):
            return
        if shown is None:  # the picture is not composed
            continue
        text = processed.infotexts[min(first + number, len(processed.infotexts) - 1)]
        plain = baseline[number] if number < len(baseline) else None
        overlay = shown.over(processed.images[first + number])
        if settings.show_masks and overlay is not None:
            assert shown.masks is not None
            yield number, overlay, text + masks_field(shown.names, shown.masks)
        for extra in _of_picture(processed.images[first + number], shown, settings, plain, overlay):
            yield number, extra, text


def _of_picture(
    picture: Any, shown: Shown, settings: Settings, plain: Any | None, overlay: Any | None
) -> list[Image.Image]:  # fmt: skip
    """The pictures besides the masks."""
    pictures = []
    if plain is not None:
        columns = [("without CLoRA", plain), ("CLoRA" if overlay else settings.method, picture)]
        pictures.append(side_by_side([*columns, *([("where each LoRA drew", overlay)] if overlay else [])]))
    if settings.show_maps and shown.maps:
        pictures.append(map_strip(shown.maps, shown.labels, shown.variants, picture.size))
    if settings.show_loss and shown.losses:
        pictures.append(loss_curve(shown.losses, shown.refined))
    return pictures
