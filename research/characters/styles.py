"""Styles: what redraws a picture, or the part of it where one subject is. Colours are floats in [0, 1], (h, w, 3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from .art import Array

_GOLD = np.array([(0.18, 0.07, 0.0), (0.62, 0.36, 0.05), (1.0, 0.8, 0.25), (1.0, 0.97, 0.75)], np.float32)
_LIGHT = (0.0, 0.35, 0.7, 1.0)  # at which the shades of gold stand


def _blurred(colours: Array, radius: float) -> Array:
    picture = Image.fromarray((np.clip(colours, 0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def _grey(colours: Array) -> Array:
    grey: Array = colours @ np.array([0.3, 0.59, 0.11], np.float32)
    return grey


def pencil(colours: Array) -> Array:
    """Grey lines and hatching on cream paper."""
    light = _grey(colours)
    wide = _grey(_blurred(colours, 7))
    line = np.clip(1 - 3.2 * np.clip(wide - light - 0.015, 0, 1), 0.25, 1)
    y, x = np.mgrid[0 : light.shape[0], 0 : light.shape[1]]
    hatch = (np.mod(x + y, 11) < 4) & (light < 0.5) | (np.mod(x - y, 11) < 3) & (light < 0.28)
    tone = np.clip(0.7 + 0.34 * light, 0, 1) * line * np.where(hatch, 0.66, 1)
    paper: Array = tone[..., None] * np.array([1.0, 0.965, 0.88], np.float32)
    return paper


def gold(colours: Array) -> Array:
    """Everything as if cast in gold: shades of one colour, light and dark from the relief."""
    light, wide = _grey(_blurred(colours, 1)), _grey(_blurred(colours, 12))
    relief = np.clip(0.5 + 1.25 * (light - wide) + 0.55 * (wide - 0.5), 0, 1)
    return np.stack([np.interp(relief, _LIGHT, _GOLD[:, i]) for i in range(3)], -1).astype(np.float32)


def comic(colours: Array) -> Array:
    """Flat bold colours with black outlines, as in a printed comic."""
    smooth = _blurred(colours, 1.2)
    grey = _grey(smooth)[..., None]
    flat = np.clip(grey + 1.3 * (smooth - grey), 0, 1)
    flat = np.clip(0.08 + np.round(flat * 4) / 4, 0, 1)
    edges = sum(np.abs(np.gradient(smooth, axis=axis)).max(-1) for axis in (0, 1))
    line = np.clip(1.6 - 16 * _blurred(np.asarray(edges)[..., None].repeat(3, -1), 0.8), 0, 1)
    return np.asarray(flat * np.where(line < 0.4, 0.06, 1), np.float32)


def detail(colours: Array) -> Array:
    """Crisper: more local contrast and darker creases."""
    sharp = colours + 1.1 * (colours - _blurred(colours, 2)) + 0.7 * (colours - _blurred(colours, 9))
    return np.clip(sharp, 0, 1)


def vivid(colours: Array) -> Array:
    """Strong colours: the slider at weight 1."""
    grey = _grey(colours)[..., None]
    return np.clip(grey + 1.75 * (colours - grey), 0, 1)


def muted(colours: Array) -> Array:
    """Weak colours: the slider at weight -1."""
    grey = _grey(colours)[..., None]
    return np.clip(grey + 0.25 * (colours - grey), 0, 1)


STYLES: dict[str, Callable[[Array], Array]] = {
    "pencil": pencil,
    "gold": gold,
    "comic": comic,
    "detail": detail,
    "vivid": vivid,
    "muted": muted,
}
