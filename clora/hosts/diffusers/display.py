"""What a composed picture shows: the labels of its concepts, its masks as an overlay, and its parameters as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from ...embedded import EMBEDDED_NAME
from ...pictures import masks_overlay
from ...settings.infotext import infotext, infotext_fields
from .compose import Composed


def concept_labels(composed: Composed, image: int = 0) -> list[str]:
    """The label of each concept of one image."""
    return [concept.label for concept in composed.compositions[image].concepts]


def overlay_of(composed: Composed, image: int = 0, *, named: bool = True) -> Image.Image | None:
    """One image with its masks outlined, None without masks.

    Without `named` there are no labels and bolder lines, for pictures that are shown small.
    """
    masks = composed.masks[image] if composed.masks else None
    if masks is None:
        return None
    labels = concept_labels(composed, image) if named else [""] * (len(masks) - 1)
    regions = [concept.region for concept in composed.compositions[image].concepts]
    localized = composed.found[image] if composed.found else None
    return masks_overlay(composed.images[image], masks, labels, regions, localized, 1.0 if named else 2.2)


def parameters(
    composed: Composed, model: Path | None, image: int = 0, more: Mapping[str, str] | None = None
) -> str:  # fmt: skip
    """The run's parameters as the WebUI writes them; CLoRA's settings and `more` only if the image was composed."""
    s, composition = composed.sampling, composed.compositions[image]
    settings = {**infotext_fields(composed.settings), **(more or {})} if composition.composes else {}
    fields = {
        "Steps": s.steps, "CFG scale": f"{s.guidance:g}", "Seed": composed.seeds[image],
        "Size": f"{s.width}x{s.height}", "Model": model.stem if model else EMBEDDED_NAME,
        **settings,
    }  # fmt: skip
    return infotext(composition.source, composition.negative, fields)
