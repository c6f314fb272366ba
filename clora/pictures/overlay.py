"""Where each LoRA drew: the outlines of the masks over a picture, with labels of words and LoRA names."""

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
from ..regions.room import is_room
from .labels import Label, arrange
from .outline import Silhouette, bounds, dashed, draw_lines, enlarged, largest_part, ring
from .palette import MIN_SIZE, concept_color

DIMMED = 0.8
"""Factor of the brightness where no concept draws."""
TINT = 0.1
"""Share of a concept's colour in its subject."""


@dataclass(frozen=True)
class _Shown:
    """One concept: the mask of its subject (h, w), the line around it, its label, and whether it was not found."""

    subject: Tensor
    line: Silhouette
    label: str
    missing: bool


def masks_overlay(
    image: Image.Image, masks: Tensor, labels: Sequence[str], regions: Sequence[Region | None] = (),
    localized: Tensor | None = None, bold: float = 1.0,
) -> Image.Image:  # fmt: skip
    """The picture with each concept's mask outlined in its colour and labelled; slightly darker where no LoRA drew.

    `masks` (V, h, w) with the base first; `labels` names the N concepts, "" means no label. The user's `regions` are
    dashed lines. If the mask is the region itself, a thin line shows where the subject was `localized` (1 + N, h, w) in
    it (`clora.regions.localization`). A concept with an empty mask gets a dark label. `bold` multiplies the thickness
    of lines, for pictures that are shown small.
    """
    factor = max(1, -(-MIN_SIZE // max(image.size)))
    size = (image.width * factor, image.height * factor)
    regions = tuple(regions) or (None,) * len(labels)
    missing, width = missing_concepts(localized, regions), max(3, round(bold * max(size) / 128))
    shown = []
    for c, name in enumerate(labels):
        inside = None if localized is None else localized[c + 1]
        shown.append(_shown(masks[c + 1], name, regions[c], inside, c, c in missing, size, width))
    canvas = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32).copy()
    subjects = _filled(canvas, masks, shown)
    colors = [concept_color(c) for c in range(len(shown))]
    draw_lines(canvas, [one.line for one in shown], colors, max(1, width // 3), 4 * width)
    picture = Image.fromarray(canvas.clip(0, 255).round().astype(np.uint8))
    _write(picture, shown, subjects)
    return picture


def _shown(
    mask: Tensor, name: str, region: Region | None, localized: Tensor | None, concept: int, missing: bool,
    size: tuple[int, int], width: int,
) -> _Shown:  # fmt: skip
    """What is drawn of one concept with its mask (h, w) in a picture of `size` (W, H), with lines of `width`."""
    mask = (mask.detach().float().cpu() > 0).float()
    if region is None:
        label = name if mask.any() else f"{name}\nnot found"
        return _Shown(mask, ring(enlarged(mask, size), width), label, not mask.any())
    label = f"{name}\nplace: {region.text}" + (", not found there" if missing else "")
    whole = np.asarray(region.grid(size[1], size[0]).numpy() > 0)
    # Dashes start differently for each concept, so that two concepts with the same region fill each other's gaps.
    dashes = dashed(ring(whole, width), 4 * width, concept)
    if not is_room(mask, region):
        return _Shown(mask, dashes | ring(enlarged(mask, size), width), label, missing)
    subject = torch.zeros_like(mask) if localized is None or missing else (localized.detach().float().cpu() > 0).float()
    return _Shown(subject, dashes | ring(enlarged(subject, size), max(2, round(width * 0.75))), label, missing)


def _filled(canvas: np.ndarray[Any, Any], masks: Tensor, shown: Sequence[_Shown]) -> Silhouette:
    """Dim `canvas` (H, W, 3), in place, where no concept draws, and tint the subjects; returns the subjects' pixels."""
    height, width, _ = canvas.shape
    canvas[~enlarged(masks[1:].amax(dim=0), (width, height))] *= DIMMED
    before = canvas.copy()
    silhouettes = [enlarged(one.subject, (width, height)) for one in shown]
    claims: np.ndarray[Any, Any] = np.stack(silhouettes).sum(axis=0, dtype=np.int32)
    for concept, inside in enumerate(silhouettes):
        # Blended with the original pixels: where subjects overlap, their colours have equal shares.
        part = TINT / claims[inside][:, None]
        canvas[inside] += part * (np.array(concept_color(concept), dtype=np.float32) - before[inside])
    return np.asarray(claims > 0)


def _write(picture: Image.Image, shown: Sequence[_Shown], subjects: Silhouette) -> None:
    """Draw the labels, each beside the largest part of its subject."""
    size, text = picture.size, max(14, min(picture.size) // 28)
    named = [(c, one) for c, one in enumerate(shown) if one.label.partition("\n")[0]]
    labels = [Label(one.label, text, size[0], concept_color(c), dark=one.missing) for c, one in named]
    targets = []
    for _, one in named:
        if one.subject.any():
            targets.append(bounds(largest_part(one.subject), size))
        elif one.line.any():
            targets.append(bounds(torch.from_numpy(one.line), size))
        else:
            targets.append((size[0] / 2, float(size[1]), size[0] / 2, float(size[1])))
    for label, corner in zip(labels, arrange(labels, targets, subjects), strict=True):
        picture.paste(label.image, corner)
