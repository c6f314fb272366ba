"""Writes what the command line made: pictures with their parameters, masks with names, comparisons."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..hosts.diffusers import Composed
from ..pictures import masks_overlay, side_by_side
from ..settings.infotext import infotext, infotext_fields


def concept_labels(composed: Composed, image: int = 0) -> list[str]:
    """The label of each concept of one image."""
    return [concept.label for concept in composed.compositions[image].concepts]


def overlay_of(composed: Composed, image: int = 0, *, named: bool = True) -> Image.Image | None:
    """Where each LoRA drew in one image, None without masks; without names, and with bold lines, for pictures
    that become small.
    """
    masks = composed.masks[image] if composed.masks else None
    if masks is None:
        return None
    labels = concept_labels(composed, image) if named else [""] * (len(masks) - 1)
    places = [concept.region for concept in composed.compositions[image].concepts]
    found = composed.found[image] if composed.found else None
    return masks_overlay(composed.images[image], masks, labels, places, found, 1.0 if named else 2.2)


def parameters(composed: Composed, model: Path | None, image: int = 0) -> str:
    """The run's parameters as the WebUI writes them, CLoRA's only where it had a part in the picture."""
    s, composition = composed.sampling, composed.compositions[image]
    own = infotext_fields(composed.settings) if composition.composes else {}
    fields = {
        "Steps": s.steps, "CFG scale": f"{s.guidance:g}", "Seed": composed.seeds[image],
        "Size": f"{s.width}x{s.height}", "Model": model.stem if model else "clora-world",
        **own,
    }  # fmt: skip
    return infotext(composition.source, composition.negative, fields)


def write_composed(composed: Composed, path: Path, *, model: Path | None) -> list[Path]:
    """Write the picture and, with CLoRA, its masks beside it (NAME-masks.png); returns what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    info.add_text("parameters", parameters(composed, model))
    composed.images[0].save(path, pnginfo=info)
    written = [path]
    overlay = overlay_of(composed)
    if overlay is not None:
        beside = path.with_name(f"{path.stem}-masks.png")
        overlay.save(beside)
        written.append(beside)
    return written


def write_comparison(merged: Composed, composed: Composed, path: Path, *, model: Path | None) -> Path:
    """Plain merge, CLoRA and CLoRA's masks in one picture; both pictures also on their own beside it."""
    write_composed(composed, path.with_name(f"{path.stem}-clora.png"), model=model)
    write_composed(merged, path.with_name(f"{path.stem}-merge.png"), model=model)
    columns = [("plain merge", merged.images[0]), ("CLoRA", composed.images[0])]
    overlay = overlay_of(composed)
    if overlay is not None:
        columns.append(("where each LoRA drew", overlay))
    side_by_side(columns).save(path)
    return path
