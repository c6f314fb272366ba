"""Pictures that CLoRA adds to the WebUI's gallery and to the API's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from .pictures import concept_color, masks_overlay, side_by_side

if TYPE_CHECKING:  # the pictures are drawn outside of WebUIs too
    from .generation import Generation, Shown


def add(processed: Any, generation: Generation) -> None:
    """Append masks and loss curves behind the host's pictures, each with its picture's infotext."""
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
        found.append(map_strip(shown.maps, shown.labels, picture.size))
    if settings.show_loss and shown.losses:
        found.append(loss_curve(shown.losses, shown.refined))
    return found


def map_strip(maps: Sequence[Tensor], labels: Sequence[str], size: tuple[int, int]) -> Image.Image:
    """Each concept's map (h_a, w_a) in its colour, min-max scaled, side by side at the picture's shape."""
    titled = []
    for concept, (one, label) in enumerate(zip(maps, labels, strict=False)):
        shade = ((one - one.min()) / (one.max() - one.min()).clamp_min(1e-12)).numpy()
        colours = (shade[..., None] * np.array(concept_color(concept))).astype(np.uint8)
        titled.append((f"map of {label}", Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)))
    return side_by_side(titled)


def loss_curve(losses: tuple[float, ...], refined: tuple[int, ...], size: tuple[int, int] = (640, 320)) -> Image.Image:
    """The loss over all updates; updates of refine steps are marked."""
    picture = Image.new("RGB", size, (250, 250, 250))
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = 60, 20, size[0] - 20, size[1] - 40
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0

    def place(number: int) -> tuple[float, float]:
        x = left + (right - left) * number / max(1, len(losses) - 1)
        return x, bottom - (bottom - top) * (losses[number] - low) / span

    draw.rectangle((left, top, right, bottom), outline=(150, 150, 150))
    for number in refined:
        x, y = place(number)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(213, 94, 0))
    points = [place(number) for number in range(len(losses))]
    if len(points) > 1:
        draw.line(points, fill=(0, 90, 160), width=2)
    draw.text((6, top - 6), f"{high:.3f}", fill=(60, 60, 60))
    draw.text((6, bottom - 6), f"{low:.3f}", fill=(60, 60, 60))
    draw.text((left, bottom + 10), f"loss over {len(losses)} updates; dots: refine steps", fill=(60, 60, 60))
    return picture
