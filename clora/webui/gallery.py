"""Pictures that CLoRA adds to the WebUI's gallery and to the API's answer."""

from __future__ import annotations

from typing import Any

from PIL import Image

from ..pictures import loss_curve, map_strip, masks_overlay
from .generation import Generation, Shown


def add(processed: Any, generation: Generation) -> None:
    """Append masks, maps and loss curves behind the host's pictures, each with its picture's infotext."""
    settings = generation.request.settings
    first = processed.index_of_first_image
    for number, shown in enumerate(generation.shown):
        if first + number >= len(processed.images):
            return
        picture, text = (
            processed.images[first + number],
            processed.infotexts[min(first + number, len(processed.infotexts) - 1)],
        )
        for extra in _extras(picture, shown, settings):
            processed.images.append(extra)
            processed.infotexts.append(text)


def _extras(picture: Any, shown: Shown, settings: Any) -> list[Image.Image]:
    found = []
    if settings.show_masks and shown.masks is not None:
        found.append(masks_overlay(picture.convert("RGB"), shown.masks, shown.labels))
    if settings.show_maps and shown.maps:
        found.append(map_strip(shown.maps, shown.labels, shown.variants, picture.size))
    if settings.show_loss and shown.losses:
        found.append(loss_curve(shown.losses, shown.refined))
    return found
