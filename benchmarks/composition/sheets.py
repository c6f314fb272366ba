"""Contact sheets: one row for each prompt and one column for each method, all with the same seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.composition.methods import Method, Setup
from benchmarks.composition.metrics import Rating, rate
from benchmarks.composition.prompts import Prompt
from benchmarks.composition.run import Store

_TILE, _HEAD, _LINE = 144, 22, 34
_GOOD, _HALF, _BAD = (20, 120, 40), (150, 100, 0), (180, 30, 30)


def plain_text(prompt: str) -> str:
    """The prompt with its LoRA tags shortened to their names."""
    return re.sub(r"<lora:(\w+):[^>]*>", r"<\1>", prompt)


def _label(rating: Rating) -> tuple[str, tuple[int, int, int]]:
    if rating.right:
        return ("right" if rating.exact else "right, and more"), _GOOD
    return ("looks wrong", _HALF) if rating.present else ("something missing", _BAD)


def sheet(store: Store, setup: Setup, prompts: Sequence[Prompt], methods: Sequence[Method], seed: int) -> Image.Image:
    """The contact sheet of one seed; cells without a result stay empty."""
    size = (_TILE * len(methods), _HEAD + len(prompts) * (_TILE + _LINE))
    picture = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for column, method in enumerate(methods):
        draw.text((column * _TILE + 4, 5), method.label, "black", font)
    for row, prompt in enumerate(prompts):
        top = _HEAD + row * (_TILE + _LINE)
        draw.text((4, top + _TILE + 17), f"{prompt.id}: {plain_text(prompt.text)}", "black", font)
        for column, method in enumerate(methods):
            key = method.key(setup, prompt.text, seed)
            result = store.get(key)
            if result is None or not store.picture(key).is_file():
                continue
            cell = Image.open(store.picture(key)).convert("RGB").resize((_TILE - 2, _TILE - 2))
            picture.paste(cell, (column * _TILE, top))
            label, colour = _label(rate(prompt, result.verdict))
            draw.text((column * _TILE + 4, top + _TILE), label, colour, font)
    return picture


def write_sheets(
    folder: Path, store: Store, setup: Setup, prompts: Sequence[Prompt], methods: Sequence[Method],
    seeds: Sequence[int],
) -> list[Path]:  # fmt: skip
    """Write one file for each group of prompts and each seed; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for group in dict.fromkeys(prompt.group for prompt in prompts):
        own = [prompt for prompt in prompts if prompt.group == group]
        for seed in seeds:
            path = folder / f"{group.replace(' ', '-').lower()}-seed{seed}.png"
            sheet(store, setup, own, methods, seed).save(path)
            written.append(path)
    return written
