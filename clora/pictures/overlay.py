"""The masks over a picture, with the subjects' words and their LoRAs' names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from .lettering import label
from .palette import SMALLEST, concept_color


def _inside(mask: np.ndarray[Any, Any], border: int) -> np.ndarray[Any, Any]:
    """The mask without a border of some pixels; the picture's own edge is no border."""
    inner = np.pad(mask, border, mode="edge")
    rows, columns = mask.shape
    result = mask.copy()
    for dy, dx in ((0, border), (2 * border, border), (border, 0), (border, 2 * border)):
        result &= inner[dy : dy + rows, dx : dx + columns]
    return result


def masks_overlay(image: Image.Image, masks: Tensor, labels: Sequence[str]) -> Image.Image:
    """The picture, dimmed, with every concept's mask tinted and outlined in its colour and its name on it.

    `masks` (V, h, w) with the base first; `labels` names the N concepts. A concept whose mask is empty is named at
    the lower edge, so that nobody looks for it in vain.
    """
    factor = max(1, -(-SMALLEST // max(image.size)))
    size = (image.width * factor, image.height * factor)
    canvas = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32) * 0.55
    places: list[tuple[float, float] | None] = []
    for concept in range(len(labels)):
        mask = masks[concept + 1].detach().float().cpu().numpy() > 0
        big = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)) > 0
        color = np.array(concept_color(concept), dtype=np.float32)
        canvas[big] = canvas[big] * 0.6 + color * 0.4
        canvas[big & ~_inside(big, max(2, max(size) // 200))] = color
        ys, xs = np.nonzero(big)
        places.append((float(xs.mean()), float(ys.mean())) if len(xs) else None)
    picture = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    text_size = max(14, min(size) // 28)
    for concept, (name, place) in enumerate(zip(labels, places, strict=True)):
        if place is None:
            edge = (size[0] / 2, size[1] - text_size * (1.5 + 2 * concept))
            label(draw, edge, f"{name}: no place found", text_size, size, concept_color(concept))
        else:
            label(draw, place, name, text_size, size, concept_color(concept))
    return picture
