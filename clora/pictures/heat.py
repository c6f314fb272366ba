"""Attention maps as pictures: a single map, and a strip of several steps and variants."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor, tensor, uint8

from .labels import text_image
from .palette import BACKDROP, LIGHT_TEXT, concept_color

ConceptMaps = Sequence[Sequence[Tensor | None]]
"""`[concept][variant]` (h_a, w_a) at one step; None if prompt scheduling removes a variant's words."""
_TILE, _TEXT, _GAP = 192, 22, 8
_ABSENT = (70, 70, 70)


def heat(values: Tensor, color: tuple[int, int, int], size: tuple[int, int]) -> Image.Image:
    """A map (h, w), min-max scaled, from black to `color`; enlarged without smoothing, so that cells are visible."""
    low, high = values.min(), values.max()
    return flat((values - low) / (high - low).clamp_min(1e-12), color, size)


def flat(values: Tensor, color: tuple[int, int, int], size: tuple[int, int]) -> Image.Image:
    """Values (h, w) from 0 to 1, such as a mask, from black to `color`; enlarged without smoothing."""
    scaled = values.detach().float().cpu()
    pixels = scaled[..., None] * tensor(color, dtype=scaled.dtype)
    return Image.fromarray(pixels.round().to(uint8).numpy()).resize(size, Image.Resampling.NEAREST)


def map_strip(
    steps: Sequence[tuple[str, ConceptMaps]], labels: Sequence[str], variants: Sequence[str], size: tuple[int, int]
) -> Image.Image:
    """Each concept's map in every variant (across) at some steps (down), at the proportions of a picture of `size`.

    `steps` are titles ("step 10, last update": the part after the comma on a second line) with the maps; `labels` name
    the concepts, `variants` the variants. Every map is scaled to its own range. There are two concepts per row.
    """
    blocks = [
        _block([(title, maps[concept]) for title, maps in steps], concept, label, variants, size)
        for concept, label in enumerate(labels)
    ]
    across = min(2, len(blocks))
    width, height = blocks[0].size
    down = -(-len(blocks) // across)
    sheet = Image.new("RGB", (across * (width + 2 * _GAP), down * (height + 2 * _GAP)), BACKDROP)
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
    titles = [[text_image(part.strip(), _TEXT) for part in title.split(",")] for title, _ in steps]
    left = max(part.width for title in titles for part in title) + 2 * _GAP
    # The tiles of tall pictures are narrow; the column still has room for a name.
    pitch = max(tile[0], _TILE * 2 // 3) + _GAP
    sheet = Image.new("RGB", (left + pitch * len(variants), 2 * line + (tile[1] + _GAP) * len(steps)), BACKDROP)
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 0, sheet.width, line - _GAP // 2), fill=color)
    draw.bitmap((_GAP, _GAP // 2), text_image(f"maps of {label}", _TEXT - 2, sheet.width - 2 * _GAP), fill=(0, 0, 0))
    for column, name in enumerate(variants):
        draw.bitmap(
            (left + pitch * column, line + _GAP // 2), text_image(name, _TEXT - 2, pitch - _GAP), fill=LIGHT_TEXT
        )
    for row, (title, (_, maps)) in enumerate(zip(titles, steps, strict=True)):
        y = 2 * line + (tile[1] + _GAP) * row
        for number, part in enumerate(title):
            draw.bitmap((0, y + number * line), part, fill=LIGHT_TEXT)
        for column, one in enumerate(maps):
            at = (left + pitch * column, y)
            drawn = Image.new("RGB", tile, _ABSENT) if one is None else heat(one, color, tile)
            sheet.paste(drawn, at)
    return sheet
