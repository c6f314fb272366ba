"""Where each LoRA drew: the masks' outlines over a picture, with the subjects' words and their LoRAs' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..prompt.region import Region
from ..regions.localization import missing_concepts
from .labels import Plate, arrange
from .outline import Silhouette, bounds, dashed, draw_lines, enlarged, largest_part, ring
from .palette import SMALLEST, concept_color

DIMMED = 0.8
"""What is left of the picture's light where no concept draws."""
TINT = 0.1
"""How much of a concept's colour is in its subject."""


@dataclass(frozen=True)
class _Shown:
    """One concept: where its subject is (h, w), the line around it, its label, and whether it was not found."""

    subject: Tensor
    line: Silhouette
    label: str
    missing: bool


def masks_overlay(
    image: Image.Image, masks: Tensor, labels: Sequence[str], places: Sequence[Region | None] = (),
    found: Tensor | None = None, bold: float = 1.0,
) -> Image.Image:  # fmt: skip
    """The picture with each concept's mask outlined in its colour and its name beside it; a little dimmed elsewhere.

    `masks` (V, h, w) with the base first; `labels` names the N concepts, "" writes nothing. A place of `places`, which
    the user has given, is a dashed line. Where it is the mask itself, a thin line tells where the subject was `found`
    (V, h, w) inside it (`clora.regions.localization`). A concept with an empty mask is named on a dark
    plate. `bold` multiplies the thickness of lines, for pictures that are shown small.
    """
    factor = max(1, -(-SMALLEST // max(image.size)))
    size = (image.width * factor, image.height * factor)
    places = tuple(places) or (None,) * len(labels)
    missing, width = missing_concepts(found, places), max(3, round(bold * max(size) / 128))
    shown = [
        _shown(masks[c + 1], name, places[c], None if found is None else found[c + 1], c, c in missing, size, width)
        for c, name in enumerate(labels)
    ]
    canvas = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32).copy()
    subjects = _filled(canvas, masks, shown)
    colors = [concept_color(c) for c in range(len(shown))]
    draw_lines(canvas, [one.line for one in shown], colors, max(1, width // 3), 4 * width)
    picture = Image.fromarray(canvas.clip(0, 255).round().astype(np.uint8))
    _write(picture, shown, subjects)
    return picture


def _shown(
    mask: Tensor, name: str, place: Region | None, found: Tensor | None, concept: int, missing: bool,
    size: tuple[int, int], width: int,
) -> _Shown:  # fmt: skip
    """What one concept with its mask (h, w) has to show in a picture of `size` (W, H), with lines of `width`."""
    mask = (mask.detach().float().cpu() > 0).float()
    if place is None:
        label = name if mask.any() else f"{name}\nnot found"
        return _Shown(mask, ring(enlarged(mask, size), width), label, not mask.any())
    label = f"{name}\nplace: {place.text}" + (", not found there" if missing else "")
    whole = np.asarray(place.grid(size[1], size[0]).numpy() > 0)
    # Every concept's dashes begin elsewhere: two of one place fill each other's gaps.
    dashes = dashed(ring(whole, width), 4 * width, concept)
    if not torch.equal(mask, place.grid(mask.shape[0], mask.shape[1])):
        return _Shown(mask, dashes | ring(enlarged(mask, size), width), label, missing)
    subject = torch.zeros_like(mask) if found is None or missing else (found.detach().float().cpu() > 0).float()
    return _Shown(subject, dashes | ring(enlarged(subject, size), max(2, round(width * 0.75))), label, missing)


def _filled(canvas: np.ndarray[Any, Any], masks: Tensor, shown: Sequence[_Shown]) -> Silhouette:
    """Dim `canvas` (H, W, 3), in place, where no concept draws, and tint the subjects; returns where those are."""
    height, width, _ = canvas.shape
    canvas[~enlarged(masks[1:].amax(dim=0), (width, height))] *= DIMMED
    before = canvas.copy()
    regions = [enlarged(one.subject, (width, height)) for one in shown]
    claims: np.ndarray[Any, Any] = np.stack(regions).sum(axis=0, dtype=np.int32)
    for concept, region in enumerate(regions):
        # Each from the picture as it was: what several claim gets their colours in equal parts.
        part = TINT / claims[region][:, None]
        canvas[region] += part * (np.array(concept_color(concept), dtype=np.float32) - before[region])
    return np.asarray(claims > 0)


def _write(picture: Image.Image, shown: Sequence[_Shown], subjects: Silhouette) -> None:
    """The labels, each beside the largest part of what it names."""
    size, text = picture.size, max(14, min(picture.size) // 28)
    named = [(c, one) for c, one in enumerate(shown) if one.label.partition("\n")[0]]
    plates = [Plate(one.label, text, size[0], concept_color(c), dark=one.missing) for c, one in named]
    regions = []
    for _, one in named:
        if one.subject.any():
            regions.append(bounds(largest_part(one.subject), size))
        elif one.line.any():
            regions.append(bounds(torch.from_numpy(one.line), size))
        else:
            regions.append((size[0] / 2, float(size[1]), size[0] / 2, float(size[1])))
    for plate, corner in zip(plates, arrange(plates, regions, subjects), strict=True):
        picture.paste(plate.image, corner)
