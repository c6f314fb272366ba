"""Pictures that CLoRA adds to the WebUI's gallery and to the API's answer."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageDraw

from .generation import Generation, Shown
from .pictures import masks_overlay


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
    if settings.show_loss and shown.losses:
        found.append(loss_curve(shown.losses, shown.refined))
    return found


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
