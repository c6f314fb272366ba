"""Text in pictures, with no font but Pillow's own."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont


def ink(text: str, size: int, limit: int = 0) -> Image.Image:
    """The text's ink as a greyscale picture, about `size` pixels high; cut to `limit` pixels of width (0: not)."""
    drawn = _drawn(text, size)
    kept = text
    while limit and drawn.width > limit and len(kept) > 1:
        kept = kept[: max(1, min(len(kept) - 1, len(kept) * limit // drawn.width))]
        drawn = _drawn(f"{kept.rstrip()}..", size)
    return drawn


def _drawn(text: str, size: int) -> Image.Image:
    try:
        font, scale = ImageFont.load_default(size), 1.0
    except TypeError:  # Pillow before 10.1 has one small Latin font, which is scaled here
        font, scale = ImageFont.load_default(), size / 11
        text = text.encode("latin-1", "replace").decode("latin-1")
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    drawn = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(drawn).text((-left, -top), text, font=font, fill=255)
    return drawn if scale == 1.0 else drawn.resize((round(drawn.width * scale), round(drawn.height * scale)))
