"""Scenes to pictures and silhouettes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from .art import Array, Art
from .backgrounds import LIGHT, SIZE, background
from .scene import Scene, Subject
from .styles import STYLES

GRID = 16  # cells of a silhouette, both ways


class Renderer:
    """Draws scenes with one source of art, and keeps backgrounds."""

    def __init__(self, art: Art) -> None:
        self.art = art
        self._background = lru_cache(300)(lambda name, seed: background(name, seed, art))

    def render(self, scene: Scene) -> Image.Image:
        """The scene as RGB picture of SIZE x SIZE."""
        return self.layers(scene)[0]

    def layers(self, scene: Scene) -> tuple[Image.Image, Array]:
        """The picture, and what is to be seen of each subject: floats in [0, 1], (subjects, SIZE, SIZE)."""
        canvas = self._background(scene.background, scene.seed).copy()
        masks = np.zeros((len(scene.subjects), SIZE, SIZE), np.float32)
        for i, one in enumerate(scene.subjects):
            mask = self._place(canvas, one, LIGHT.get(scene.background, (1.0, 1.0, 1.0)))
            shape = np.asarray(mask, np.float32) / 255
            masks[:i] *= 1 - shape
            masks[i] = shape
        for i, one in enumerate(scene.subjects):
            if one.style:
                canvas = styled(canvas, one.style, masks[i])
        return (styled(canvas, scene.style) if scene.style else canvas), masks

    def _place(self, canvas: Image.Image, one: Subject, light: tuple[float, ...]) -> Image.Image:
        """Draw the subject with its shadow, and return its silhouette on the canvas."""
        drawn = self.art.draw(one.file, one.recolour, one.side)
        corner = (round(one.x - drawn.width / 2), round(one.y - drawn.height / 2))
        mask = Image.new("L", canvas.size)
        mask.paste(drawn.getchannel("A"), corner)
        canvas.paste((16, 16, 40), (0, 0), _shadow(mask, corner, drawn.size))
        bands = [band.point([min(255, round(v * f)) for v in range(256)]) for band, f in
                 zip(drawn.convert("RGB").split(), light, strict=True)]  # fmt: skip
        canvas.paste(Image.merge("RGB", bands), corner, drawn.getchannel("A"))
        return mask


def _shadow(mask: Image.Image, corner: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """A soft shadow: a flat disc under the foot, and a faint one round the whole silhouette."""
    width, height = size[0], max(6, size[0] // 6)
    axis_x = np.linspace(-1, 1, width)[None, :]
    axis_y = np.linspace(-1, 1, height)[:, None]
    disc = np.clip(1 - np.hypot(axis_x, axis_y), 0, 1) ** 0.8 * 125
    flat = Image.new("L", mask.size)
    flat.paste(Image.fromarray(disc.astype(np.uint8)), (corner[0], corner[1] + size[1] - height // 2 - 2))
    soft = Image.new("L", mask.size)
    soft.paste(mask.reduce(2).filter(ImageFilter.BoxBlur(4)).resize(mask.size).point(lambda a: a * 0.3), (0, 4))
    return Image.fromarray(np.maximum(np.asarray(flat), np.asarray(soft)))


def styled(picture: Image.Image, style: str, mask: Array | None = None) -> Image.Image:
    """The picture redrawn in a style, where the mask (SIZE, SIZE) is if given."""
    colours = np.asarray(picture, np.float32) / 255
    drawn = STYLES[style](colours)
    if mask is not None:
        drawn = colours + mask[..., None] * (drawn - colours)
    return Image.fromarray((np.clip(drawn, 0, 1) * 255).round().astype(np.uint8))


def cells(masks: Array, grid: int = GRID) -> Array:
    """How much of each cell is seen of each subject: floats (subjects, SIZE, SIZE) to bytes (subjects, grid, grid)."""
    step = masks.shape[-1] // grid
    means = masks.reshape(len(masks), grid, step, grid, step).mean((2, 4))
    packed: Array = (means * 255).round().astype(np.uint8)
    return packed
