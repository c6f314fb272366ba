"""Attention maps as pictures: one in its colour, and all of a run in a strip."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor, tensor, uint8

from .labels import ink
from .palette import BRIGHT, GROUND, concept_color

ConceptMaps = Sequence[Sequence[Tensor | None]]
"""`[concept][variant]` (h_a, w_a) at one step; None where a variant's words are scheduled away."""
_TILE, _TEXT, _GAP = 192, 22, 8
_ABSENT = (70, 70, 70)


def heat(values: Tensor, color: tuple[int, int, int], size: tuple[int, int]) -> Image.Image:
    """A map (h, w), min-max scaled, from black to its colour; enlarged without smoothing, so that its cells show."""
    low, high = values.min(), values.max()
    return flat((values - low) / (high - low).clamp_min(1e-12), color, size)


def flat(values: Tensor, color: tuple[int, int, int], size: tuple[int, int]) -> Image.Image:
    """Values (h, w) of 0 to 1, a mask for instance, from black to a colour; its cells show."""
    scaled = values.detach().float().cpu()
    pixels = scaled[..., None] * tensor(color, dtype=scaled.dtype)
    return Image.fromarray(pixels.round().to(uint8).numpy()).resize(size, Image.Resampling.NEAREST)


def map_strip(
    steps: Sequence[tuple[str, ConceptMaps]], labels: Sequence[str], variants: Sequence[str], size: tuple[int, int]
) -> Image.Image:
    """Each concept's map in every variant (across) at some steps (down), at the proportions of a picture of `size`.

    `steps` are titles ("step 10, last update": the part after the comma on a second line) with the maps; `labels` name
    the concepts, `variants` the variants. Every map is scaled to its own range. Concepts stand two in a row.
    """
    blocks = [
        _block([(title, maps[concept]) for title, maps in steps], concept, label, variants, size)
        for concept, label in enumerate(labels)
    ]
    across = min(2, len(blocks))
    width, height = blocks[0].size
    down = -(-len(blocks) // across)
    sheet = Image.new("RGB", (across * (width + 2 * _GAP), down * (height + 2 * _GAP)), GROUND)
    for number, block in enumerate(blocks):
        column, row = number % across, number // across
        sheet.paste(block, (column * (width + 2 * _GAP) + _GAP, row * (height + 2 * _GAP) + _GAP))
    return sheet


def _block(
    steps: Sequence[tuple[str, Sequence[Tensor | None]]], concept: int, label: str, variants: Sequence[str],
    size: tuple[int, int],
) -> Image.Image:  # fmt: skip
    """One concept's maps: a row for each step, a column for each variant."""
    color, line = concept_color(concept), _TEXT + _GAP
    tile = (max(1, round(size[0] * _TILE / max(size))), max(1, round(size[1] * _TILE / max(size))))
    titles = [[ink(part.strip(), _TEXT) for part in title.split(",")] for title, _ in steps]
    left = max(part.width for title in titles for part in title) + 2 * _GAP
    # Narrow tiles of tall pictures still have room for a name.
    pitch = max(tile[0], _TILE * 2 // 3) + _GAP
    sheet = Image.new("RGB", (left + pitch * len(variants), 2 * line + (tile[1] + _GAP) * len(steps)), GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 0, sheet.width, line - _GAP // 2), fill=color)
    draw.bitmap((_GAP, _GAP // 2), ink(f"maps of {label}", _TEXT - 2, sheet.width - 2 * _GAP), fill=(0, 0, 0))
    for column, name in enumerate(variants):
        draw.bitmap((left + pitch * column, line + _GAP // 2), ink(name, _TEXT - 2, pitch - _GAP), fill=BRIGHT)
    for row, (title, (_, maps)) in enumerate(zip(titles, steps, strict=True)):
        y = 2 * line + (tile[1] + _GAP) * row
        for number, part in enumerate(title):
            draw.bitmap((0, y + number * line), part, fill=BRIGHT)
        for column, one in enumerate(maps):
            at = (left + pitch * column, y)
            drawn = Image.new("RGB", tile, _ABSENT) if one is None else heat(one, color, tile)
            sheet.paste(drawn, at)
    return sheet
