"""Pictures side by side, each with its title above it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from .labels import ink
from .palette import BRIGHT, GROUND, SMALLEST


def side_by_side(titled: Sequence[tuple[str, Image.Image]], gap: int = 12) -> Image.Image:
    """Pictures in one row at a common height, each with its title above it."""
    height = max(max(image.height for _, image in titled), SMALLEST)
    scaled = [
        image.convert("RGB").resize((round(image.width * height / image.height), height), Image.Resampling.BICUBIC)
        for _, image in titled
    ]
    head = height // 14
    width = sum(image.width for image in scaled) + gap * (len(scaled) + 1)
    sheet = Image.new("RGB", (width, height + head + 2 * gap), GROUND)
    draw = ImageDraw.Draw(sheet)
    x = gap
    for (title, _), image in zip(titled, scaled, strict=True):
        sheet.paste(image, (x, head + gap))
        draw.bitmap((x + 4, gap // 2), ink(title, round(head * 0.6), image.width - 4), fill=BRIGHT)
        x += image.width + gap
    return sheet
