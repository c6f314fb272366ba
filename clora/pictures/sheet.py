"""Pictures side by side, with titles."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from .labels import text_image
from .palette import BACKDROP, LIGHT_TEXT, MIN_SIZE


def side_by_side(titled: Sequence[tuple[str, Image.Image]], gap: int = 12) -> Image.Image:
    """Pictures in one row, scaled to the same height, with their titles above them."""
    height = max(max(image.height for _, image in titled), MIN_SIZE)
    scaled = [
        image.convert("RGB").resize((round(image.width * height / image.height), height), Image.Resampling.BICUBIC)
        for _, image in titled
    ]
    head = height // 14
    width = sum(image.width for image in scaled) + gap * (len(scaled) + 1)
    sheet = Image.new("RGB", (width, height + head + 2 * gap), BACKDROP)
    draw = ImageDraw.Draw(sheet)
    x = gap
    for (title, _), image in zip(titled, scaled, strict=True):
        sheet.paste(image, (x, head + gap))
        draw.bitmap((x + 4, gap // 2), text_image(title, round(head * 0.6), image.width - 4), fill=LIGHT_TEXT)
        x += image.width + gap
    return sheet
