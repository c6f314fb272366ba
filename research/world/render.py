"""Renders scenes to pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .backgrounds import background
from .looks import LOOKS
from .paint import CREAM, OUTLINE, Field, Pen, shade, surface
from .scene import COLOURS, SIZE, Scene, Thing
from .shapes import SILHOUETTES, ellipse

_FINE = 2  # tiles are drawn larger by this factor, then reduced
_LINE = 0.075  # width of the visible outline, in unit coordinates


def _masks(kind: str, side: int, margin: int) -> tuple[Image.Image, Image.Image]:
    """The silhouette with its outline, and without."""
    outer, inner = Image.new("L", (side, side)), Image.new("L", (side, side))
    outer_pen, inner_pen = (Pen(ImageDraw.Draw(mask), side, margin) for mask in (outer, inner))
    for polygon in SILHOUETTES[kind]:
        outer_pen.fill(polygon, 255)
        outer_pen.line([*polygon, polygon[0], polygon[1]], 255, 2 * _LINE)
        inner_pen.fill(polygon, 255)
    return outer, inner


def _class_marks(kind: str, pen: Pen) -> None:
    """Draw the marks of every thing of the class."""
    if kind == "house":
        pen.fill([(-0.2, 0.35), (0.2, 0.35), (0.2, 0.95), (-0.2, 0.95)], OUTLINE)
        pen.line([(-0.75, -0.12), (0.75, -0.12)], OUTLINE, _LINE)
    elif kind == "fish":
        pen.fill(ellipse(-0.6, -0.12, 0.16, 0.16), (250, 250, 250))
        pen.fill(ellipse(-0.63, -0.12, 0.08, 0.08), OUTLINE)
    elif kind == "mushroom":
        pen.fill([(-0.3, 0.12), (0.3, 0.12), (0.39, 0.95), (-0.39, 0.95)], CREAM)
        pen.line([(-0.95, 0.12), (0.95, 0.12)], OUTLINE, _LINE)


def _unit_coordinates(side: int, margin: int) -> tuple[Field, Field]:
    axis = ((np.arange(side) + 0.5 - side / 2) / (side / 2 - margin)).astype(np.float32)
    u, v = np.meshgrid(axis, axis)
    return u, v


def tile(thing: Thing) -> Image.Image:
    """The thing alone on a transparent RGBA tile whose centre is the thing's centre."""
    margin = 10 * _FINE
    side = round(thing.diameter) * _FINE + 2 * margin
    u, v = _unit_coordinates(side, margin)
    look = LOOKS[thing.look] if thing.look else None
    colours = look.surface(u, v) if look else surface(COLOURS[thing.colour], thing.texture, u, v)
    paint = Image.fromarray(np.clip(shade(colours, u, v), 0, 255).astype(np.uint8))
    pen = Pen(ImageDraw.Draw(paint), side, margin)
    if look:
        look.marks(pen)
    else:
        _class_marks(thing.kind, pen)
    outer, inner = _masks(thing.kind, side, margin)
    drawn = Image.composite(paint, Image.new("RGB", paint.size, OUTLINE), inner)
    drawn.putalpha(outer)
    if thing.tilt:
        drawn = drawn.rotate(thing.tilt, Image.Resampling.BILINEAR, fillcolor=(*OUTLINE, 0))
    return drawn.reduce(_FINE)


def _corner(thing: Thing, picture: Image.Image) -> tuple[int, int]:
    return round(thing.x - picture.width / 2), round(thing.y - picture.height / 2)


def silhouette(thing: Thing) -> Field:
    """The thing's coverage of the picture: floats in [0, 1], (SIZE, SIZE)."""
    mask = Image.new("L", (SIZE, SIZE))
    drawn = tile(thing)
    mask.paste(255, _corner(thing, drawn), drawn.getchannel("A"))
    return np.asarray(mask, np.float32) / 255


def _sketch(picture: Image.Image) -> Image.Image:
    """A pencil drawing: grey on cream paper, hatched where the picture is dark."""
    light = np.asarray(picture.convert("L"), np.float32) / 255
    y, x = np.mgrid[0 : light.shape[0], 0 : light.shape[1]]
    hatch = (np.mod(x + y, 12) < 4) & (light < 0.62)
    tone = np.where(hatch, 0.35, np.where(light < 0.13, 0.1, 0.72 + 0.28 * light))
    return Image.fromarray((tone[..., None] * np.array((255, 246, 222))).astype(np.uint8))


_STYLES = {"sketch": _sketch}


def render(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of SIZE x SIZE."""
    picture = background(scene.background, scene.offset)
    for thing in scene.things:
        drawn = tile(thing)
        picture.paste(drawn, _corner(thing, drawn), drawn)
    return _STYLES[scene.style](picture) if scene.style else picture
