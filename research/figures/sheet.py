"""Layout of pictures and wrapped text on a dark sheet, for the figures of the documents."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
BACKGROUND: Color = (24, 24, 24)
INK: Color = (235, 235, 235)
LEADING = 1.25


def wrapped(pieces: Sequence[tuple[str, Color]], width: int, size: int) -> list[list[tuple[str, Color]]]:
    """Lines of words no wider than `width`, each word with its piece's colour."""
    font = ImageFont.load_default(size)
    lines: list[list[tuple[str, Color]]] = [[]]
    used = 0.0
    for text, color in pieces:
        for word in text.split():
            length = font.getlength(word + " ")
            if lines[-1] and used + length > width:
                lines.append([])
                used = 0.0
            lines[-1].append((word, color))
            used += length
    return lines


def text_block(pieces: Sequence[tuple[str, Color]], width: int, size: int = 18) -> Image.Image:
    """Coloured text on the sheet's background, as high as its lines."""
    font = ImageFont.load_default(size)
    lines = wrapped(pieces, width, size)
    block = Image.new("RGB", (width, round(len(lines) * size * LEADING) + 2), BACKGROUND)
    draw = ImageDraw.Draw(block)
    for row, line in enumerate(lines):
        x = 0.0
        for word, color in line:
            draw.text((x, row * size * LEADING), word, font=font, fill=color)
            x += font.getlength(word + " ")
    return block


def beside(pictures: Sequence[Image.Image], gap: int = 6) -> Image.Image:
    """Pictures from left to right, aligned at the top."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, max(picture.height for picture in pictures)), BACKGROUND)
    x = 0
    for picture in pictures:
        sheet.paste(picture, (x, 0))
        x += picture.width + gap
    return sheet


def below(pictures: Sequence[Image.Image], gap: int = 6) -> Image.Image:
    """Pictures from top to bottom, aligned at the left."""
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (max(picture.width for picture in pictures), height), BACKGROUND)
    y = 0
    for picture in pictures:
        sheet.paste(picture, (0, y))
        y += picture.height + gap
    return sheet


def framed(picture: Image.Image, margin: int = 10) -> Image.Image:
    """The picture with a margin of the sheet's background."""
    sheet = Image.new("RGB", (picture.width + 2 * margin, picture.height + 2 * margin), BACKGROUND)
    sheet.paste(picture, (margin, margin))
    return sheet
