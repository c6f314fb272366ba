"""The loss over the updates of a run."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from .labels import text_image

_MARK, _LINE, _TEXT = (213, 94, 0), (0, 90, 160), (60, 60, 60)


def loss_curve(losses: Sequence[float], refined: Sequence[int], size: tuple[int, int] = (640, 360)) -> Image.Image:
    """The loss over all updates; the updates of refine steps (indices in `refined`) are marked by dots."""
    picture = Image.new("RGB", size, (250, 250, 250))
    draw = ImageDraw.Draw(picture)
    text = max(14, size[1] // 20)
    left, top, right, bottom = 4 * text, 2 * text, size[0] - text, size[1] - 3 * text
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0

    def point(number: int) -> tuple[float, float]:
        x = left + (right - left) * number / max(1, len(losses) - 1)
        return x, bottom - (bottom - top) * (losses[number] - low) / span

    draw.rectangle((left, top, right, bottom), outline=(150, 150, 150))
    points = [point(number) for number in range(len(losses))]
    if len(points) > 1:
        draw.line(points, fill=_LINE, width=2)
    for x, y in (points[number] for number in refined):
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=_MARK)
    for value, y in ((high, top), (low, bottom)):
        draw.bitmap((6, y - text // 2), text_image(f"{value:.3f}", text, left - 10), fill=_TEXT)
    title = f"loss over {len(losses)} updates" + ("; dots: refine steps" if refined else "")
    draw.bitmap((left, bottom + text), text_image(title, text, right - left), fill=_TEXT)
    return picture
