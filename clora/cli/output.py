"""Writes the command line's results: pictures with their parameters, masks, comparisons."""

from __future__ import annotations

from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from ..hosts.diffusers import Composed
from ..hosts.diffusers.display import overlay_of, parameters
from ..pictures import side_by_side


def write_composed(composed: Composed, path: Path, *, model: Path | None) -> list[Path]:
    """Write the picture and, if it was composed, its masks beside it (NAME-masks.png); returns the written paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    info.add_text("parameters", parameters(composed, model))
    composed.images[0].save(path, pnginfo=info)
    written = [path]
    overlay = overlay_of(composed)
    if overlay is not None:
        masks_path = path.with_name(f"{path.stem}-masks.png")
        overlay.save(masks_path)
        written.append(masks_path)
    return written


def write_comparison(merged: Composed, composed: Composed, path: Path, *, model: Path | None) -> Path:
    """Write plain merge, CLoRA and CLoRA's masks side by side, and both pictures beside it (NAME-merge, NAME-clora)."""
    write_composed(composed, path.with_name(f"{path.stem}-clora.png"), model=model)
    write_composed(merged, path.with_name(f"{path.stem}-merge.png"), model=model)
    columns = [("plain merge", merged.images[0]), ("CLoRA", composed.images[0])]
    overlay = overlay_of(composed)
    if overlay is not None:
        columns.append(("where each LoRA drew", overlay))
    side_by_side(columns).save(path)
    return path
