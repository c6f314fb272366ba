"""Pictures that explain a composition: masks over the picture with names, and pictures side by side (Pillow only)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

# Okabe and Ito's palette: told apart with every kind of colour blindness. Black is left to the base.
PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0), (0, 114, 178),
)  # fmt: skip
SMALLEST = 512
"""Explanations are drawn at least this large, so that names stay readable over small pictures."""


def concept_color(concept: int) -> tuple[int, int, int]:
    """The colour of concept `concept` (0-based) in every picture, panel and prompt."""
    return PALETTE[concept % len(PALETTE)]


def _text(text: str, size: int) -> Image.Image:
    """The text's ink as a greyscale picture, about `size` pixels high."""
    try:
        font, scale = ImageFont.load_default(size), 1.0
    except TypeError:  # Pillow before 10.1 has one small Latin font, which is scaled here
        font, scale = ImageFont.load_default(), size / 11
        text = text.encode("latin-1", "replace").decode("latin-1")
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    ink = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(ink).text((-left, -top), text, font=font, fill=255)
    return ink if scale == 1.0 else ink.resize((round(ink.width * scale), round(ink.height * scale)))


def _label(
    draw: ImageDraw.ImageDraw,
    center: tuple[float, float],
    text: str,
    size: int,
    limit: tuple[int, int],
    plate: tuple[int, int, int],
) -> None:
    """Text centred at a place, shifted so that it stays inside the picture, in black on a plate of its colour."""
    ink = _text(text, size)
    width, height = ink.size
    pad = size // 4
    x = min(max(center[0] - width / 2, pad), max(limit[0] - width - pad, pad))
    y = min(max(center[1] - height / 2, pad), max(limit[1] - height - pad, pad))
    draw.rounded_rectangle((x - pad, y - pad, x + width + pad, y + height + pad), radius=pad, fill=plate)
    draw.bitmap((round(x), round(y)), ink, fill=(0, 0, 0))


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
    for concept, (label, place) in enumerate(zip(labels, places, strict=True)):
        if place is None:
            edge = (size[0] / 2, size[1] - text_size * (1.5 + 2 * concept))
            _label(draw, edge, f"{label}: no place found", text_size, size, concept_color(concept))
        else:
            _label(draw, place, label, text_size, size, concept_color(concept))
    return picture


def side_by_side(titled: Sequence[tuple[str, Image.Image]], gap: int = 12) -> Image.Image:
    """Pictures in one row at a common height, each with its title above it."""
    height = max(max(image.height for _, image in titled), SMALLEST)
    scaled = [
        image.convert("RGB").resize((round(image.width * height / image.height), height), Image.Resampling.BICUBIC)
        for _, image in titled
    ]
    head = height // 14
    width = sum(image.width for image in scaled) + gap * (len(scaled) + 1)
    sheet = Image.new("RGB", (width, height + head + 2 * gap), (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    x = gap
    for (title, _), image in zip(titled, scaled, strict=True):
        sheet.paste(image, (x, head + gap))
        draw.bitmap((x + 4, gap // 2), _text(title, round(head * 0.6)), fill=(240, 240, 240))
        x += image.width + gap
    return sheet
