"""Contact sheets: one row for each prompt and one column for each method, all with the same seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

from PIL import Image, ImageDraw, ImageFont

from benchmarks.characters.measures import Rated, Seen
from benchmarks.characters.methods import METHODS
from benchmarks.characters.run import Store

_TILE, _HEAD, _LINE, _WIDE = 144, 22, 34, 720  # pixels; the longest prompts need that width
_GOOD, _HALF, _BAD = (20, 120, 40), (150, 100, 0), (180, 30, 30)


def plain_text(prompt: str) -> str:
    """The prompt with its tags shortened to their names."""
    return re.sub(r"<c?lora:(\w+)[^>]*>", r"<\1>", prompt)


def label(seen: Seen) -> tuple[str, tuple[int, int, int]]:
    """What is written under a picture, and its colour."""
    if seen.rating.right:
        return ("right" if seen.rating.exact else "right, and more"), _GOOD
    return ", ".join(sorted(seen.faults)) or "wrong", _HALF if seen.rating.present else _BAD


def sheet(store: Store, rows: Sequence[Rated]) -> Image.Image:
    """The contact sheet of results of one seed."""
    methods = list(dict.fromkeys(row.result.method for row in rows))
    prompts = list(dict.fromkeys(row.result.prompt for row in rows))
    picture = Image.new("RGB", (max(_WIDE, _TILE * len(methods)), _HEAD + len(prompts) * (_TILE + _LINE)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for column, method in enumerate(methods):
        draw.text((column * _TILE + 4, 5), METHODS[method].label, "black", font)
    for number, prompt in enumerate(prompts):
        words = f"{prompt.id}: {plain_text(prompt.prompt)}"
        draw.text((4, _HEAD + number * (_TILE + _LINE) + _TILE + 17), words, "black", font)
    for row in rows:
        left = methods.index(row.result.method) * _TILE
        top = _HEAD + prompts.index(row.result.prompt) * (_TILE + _LINE)
        cell = store.picture(row.result.key).resize((_TILE - 2, _TILE - 2))
        picture.paste(cell, (left, top))
        text, colour = label(row.seen)
        draw.text((left + 4, top + _TILE), shorten(text, 24, placeholder=" ..."), colour, font)
    return picture


def write_sheets(folder: Path, store: Store, rows: Sequence[Rated]) -> list[Path]:
    """Write one file for each group of prompts and each seed; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    sheets: dict[str, list[Rated]] = {}
    for row in rows:
        name = f"{row.result.prompt.group.replace(' ', '-')}-seed{row.result.seed}.png"
        sheets.setdefault(name, []).append(row)
    for name, own in sheets.items():
        sheet(store, own).save(folder / name)
    return [folder / name for name in sheets]
