"""Backgrounds drawn by code, some with trees and houses of the art. A name and a seed always give the same picture."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .art import Array, Art
from .words import SCENERY

SIZE = 256  # pixels of a scene, both ways
Colour = tuple[int, int, int]
Painter = Callable[[random.Random, Art], Image.Image]


def gradient(top: Colour, bottom: Colour, height: int, ease: float = 1.0) -> Image.Image:
    """Colours from `top` to `bottom` over (height, SIZE)."""
    share = (np.linspace(0, 1, height) ** ease)[:, None, None]
    colours = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray(np.broadcast_to(colours, (height, SIZE, 3)).astype(np.uint8))


def clouds(rng: random.Random, size: tuple[int, int], cells: int) -> Array:
    """Smooth noise in [0, 1] of (height, width) with blobs of about a `cells`-th of the width."""
    width, height = size
    coarse = np.random.default_rng(rng.randrange(2**31)).random((max(2, cells * height // width), cells))
    noise = Image.fromarray((coarse * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(noise, np.float32) / 255


def mottled(picture: Image.Image, rng: random.Random, strength: float, cells: int = 12) -> Image.Image:
    """The picture with soft light and dark patches."""
    noise = clouds(rng, picture.size, cells) - 0.5
    values = np.asarray(picture, np.float32) * (1 + strength * noise[..., None])
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def hills(canvas: Image.Image, rng: random.Random, base: float, swing: float, colour: Colour) -> None:
    """A rolling line of hills from height `base` downwards."""
    scale, phase = rng.uniform(0.7, 1.3), rng.uniform(0, 6.28)
    x = np.arange(2 * SIZE + 1) / (2 * SIZE) * 6.28 * scale
    y = base + swing * (np.sin(x + phase) + 0.4 * np.sin(2.3 * x + 2 * phase))
    mask = Image.new("L", (2 * SIZE, 2 * SIZE))
    points = [(float(i), float(2 * v)) for i, v in enumerate(y)]
    ImageDraw.Draw(mask).polygon([*points, (2 * SIZE, 2 * SIZE), (0, 2 * SIZE)], fill=255)
    canvas.paste(colour, (0, 0), mask.reduce(2))


def dots(canvas: Image.Image, rng: random.Random, count: int, radius: tuple[float, float], box: tuple[int, ...],
         colour: Colour, flat: float = 1.0) -> None:  # fmt: skip
    """Soft-edged discs at random places of the box (left, top, right, bottom); `flat` squeezes them."""
    mask = Image.new("L", (2 * SIZE, 2 * SIZE))
    draw = ImageDraw.Draw(mask)
    for _ in range(count):
        x, y, r = rng.uniform(box[0], box[2]), rng.uniform(box[1], box[3]), rng.uniform(*radius)
        draw.ellipse((2 * (x - r), 2 * (y - r * flat), 2 * (x + r), 2 * (y + r * flat)), fill=255)
    canvas.paste(colour, (0, 0), mask.reduce(2))


def sky_and_ground(rng: random.Random, sky: tuple[Colour, Colour], ground: tuple[Colour, Colour],
                   horizon: tuple[int, int]) -> tuple[Image.Image, int]:  # fmt: skip
    """The two halves of a landscape, and where they meet."""
    level = rng.randint(*horizon)
    canvas = Image.new("RGB", (SIZE, SIZE))
    canvas.paste(gradient(*sky, level), (0, 0))
    canvas.paste(mottled(gradient(*ground, SIZE - level, 0.7), rng, 0.13), (0, level))
    return canvas, level


def _put(canvas: Image.Image, art: Art, name: str, side: int, x: int, foot: int, dim: float) -> None:
    """A picture of the scenery standing at (x, foot), its colours drawn towards the canvas's there."""
    drawn = art.draw(SCENERY[name], None, side)
    corner = (x - drawn.width // 2, foot - drawn.height)
    mask = drawn.getchannel("A").filter(ImageFilter.GaussianBlur(0.7))
    haze = Image.new("RGB", drawn.size, canvas.getpixel((min(max(x, 0), SIZE - 1), 4)))
    canvas.paste(Image.blend(drawn.convert("RGB"), haze, dim), corner, mask)


def _grass(rng: random.Random, art: Art) -> Image.Image:
    canvas, level = sky_and_ground(rng, ((110, 185, 245), (205, 232, 250)), ((128, 196, 84), (72, 150, 58)), (80, 120))
    dots(canvas, rng, 5, (10, 22), (0, 15, SIZE, level - 35), (240, 247, 252), 0.5)
    hills(canvas, rng, level - 8, 7, (136, 196, 120))
    canvas.paste(mottled(gradient((128, 200, 80), (66, 148, 56), SIZE - level), rng, 0.2), (0, level))
    dots(canvas, rng, 16, (1.5, 2.5), (0, level + 15, SIZE, SIZE), (250, 240, 200))
    return canvas


def _beach(rng: random.Random, art: Art) -> Image.Image:
    canvas, level = sky_and_ground(rng, ((90, 190, 240), (200, 238, 250)), ((40, 150, 200), (90, 205, 215)), (70, 100))
    shore = level + rng.randint(35, 55)
    hills(canvas, rng, shore - 4, 4, (235, 250, 250))
    sand = Image.new("RGB", (SIZE, SIZE))
    sand.paste(mottled(gradient((244, 222, 165), (226, 188, 122), SIZE), rng, 0.08), (0, 0))
    mask = Image.new("RGB", (SIZE, SIZE))
    hills(mask, rng, shore + 4, 4, (255, 255, 255))
    canvas.paste(sand, (0, 0), mask.convert("L"))
    if rng.random() < 0.7:
        _put(canvas, art, "palm", rng.randint(95, 130), rng.choice((20, 236)), shore + 30, 0.1)
    return canvas


def _snow(rng: random.Random, art: Art) -> Image.Image:
    canvas, level = sky_and_ground(
        rng, ((150, 185, 225), (222, 234, 246)), ((238, 244, 252), (206, 220, 240)), (80, 120)
    )
    hills(canvas, rng, level - 14, 10, (206, 219, 238))
    for _ in range(rng.randint(2, 4)):
        _put(canvas, art, "fir", rng.randint(40, 62), rng.randint(0, SIZE), level + rng.randint(0, 10), 0.45)
    canvas.paste(mottled(gradient((240, 245, 252), (208, 222, 242), SIZE - level - 8), rng, 0.05), (0, level + 8))
    dots(canvas, rng, 40, (1.5, 3.2), (0, 0, SIZE, SIZE), (255, 255, 255))
    return canvas


def _night(rng: random.Random, art: Art) -> Image.Image:
    canvas, level = sky_and_ground(rng, ((14, 18, 56), (58, 58, 120)), ((34, 48, 86), (22, 28, 58)), (130, 165))
    dots(canvas, rng, 45, (0.6, 1.6), (0, 0, SIZE, level - 20), (250, 246, 214))
    x, y = rng.randint(25, 230), rng.randint(22, 45)
    dots(canvas, rng, 1, (14, 18), (x, y, x, y), (250, 240, 190))
    hills(canvas, rng, level - 16, 10, (40, 46, 92))
    hills(canvas, rng, level, 5, (34, 50, 84))
    canvas.paste(mottled(gradient((36, 54, 86), (20, 28, 56), SIZE - level - 6), rng, 0.15), (0, level + 6))
    return canvas


def _desert(rng: random.Random, art: Art) -> Image.Image:
    canvas, level = sky_and_ground(rng, ((250, 196, 130), (255, 232, 190)), ((226, 160, 92), (204, 124, 66)), (85, 120))
    dots(canvas, rng, 1, (18, 24), (30, 20, 226, 50), (255, 246, 214))
    hills(canvas, rng, level - 12, 14, (222, 150, 96))
    hills(canvas, rng, level + 12, 9, (232, 170, 102))
    hills(canvas, rng, level + 60, 8, (216, 146, 80))
    return mottled(canvas, rng, 0.04)


def _forest(rng: random.Random, art: Art) -> Image.Image:
    canvas, level = sky_and_ground(rng, ((150, 205, 180), (190, 225, 170)), ((96, 128, 62), (66, 88, 44)), (110, 135))
    for row, dim in ((0, 0.55), (1, 0.3)):
        for i in range(6 - row):
            name = rng.choice(("leafy", "fir"))
            x = round((i + rng.uniform(0.1, 0.9)) * SIZE / (6 - row))
            _put(canvas, art, name, rng.randint(85, 120) + 15 * row, x, level + 4 + 12 * row, dim)
    ground = mottled(gradient((104, 140, 66), (64, 90, 42), SIZE - level - 14), rng, 0.25)
    canvas.paste(ground, (0, level + 14))
    return canvas


def _city(rng: random.Random, art: Art) -> Image.Image:
    canvas, level = sky_and_ground(
        rng, ((170, 205, 235), (232, 226, 226)), ((150, 152, 162), (112, 114, 126)), (130, 155)
    )
    x = -10
    while x < SIZE + 20:
        side = rng.randint(80, 130)
        _put(canvas, art, rng.choice(("office", "bank", "hotel")), side, x + side // 3, level + 3, 0.38)
        x += round(side * 0.66)
    canvas.paste(gradient((186, 188, 196), (170, 172, 182), 14), (0, level))
    draw = ImageDraw.Draw(canvas)
    for i in range(-1, 6):
        draw.rectangle((i * 60 + 14, level + 58, i * 60 + 44, level + 63), fill=(226, 222, 200))
    return canvas


def _room(rng: random.Random, art: Art) -> Image.Image:
    wall = rng.choice(((236, 206, 190), (206, 220, 232), (230, 220, 190), (214, 204, 230)))
    canvas, level = sky_and_ground(rng, (wall, wall), ((190, 138, 96), (160, 108, 70)), (150, 175))
    draw = ImageDraw.Draw(canvas)
    dim = tuple(round(c * 0.95) for c in wall)
    for i in range(0, SIZE, 32):
        draw.rectangle((i, 0, i + 15, level - 8), fill=dim)
    draw.rectangle((0, level - 8, SIZE, level), fill=(250, 246, 240))
    for i in range(9):
        top, foot = SIZE / 2 + (i - 4) * 34, SIZE / 2 + (i - 4) * 62
        draw.line((top, level, foot, SIZE), fill=(148, 98, 62), width=2)
    x = rng.choice((20, 150))
    draw.rounded_rectangle((x, 22, x + 84, 96), 6, fill=(252, 250, 246))
    canvas.paste(gradient((140, 200, 245), (206, 234, 250), 62).crop((0, 0, 72, 62)), (x + 6, 28))
    draw.rectangle((x + 40, 28, x + 43, 90), fill=(252, 250, 246))
    return canvas.filter(ImageFilter.GaussianBlur(0.6))


def _sea(rng: random.Random, art: Art) -> Image.Image:
    canvas = gradient((110, 215, 235), (14, 70, 140), SIZE, 0.9)
    light = clouds(rng, (SIZE, SIZE), 5)
    x = np.arange(SIZE)[None, :] + 0.5 * np.arange(SIZE)[:, None]
    rays = 0.5 + 0.5 * np.sin(x / rng.uniform(14, 22) + 5 * light)
    fade = np.linspace(0.28, 0, SIZE)[:, None]
    values = np.asarray(canvas, np.float32) + 255 * (rays * fade)[..., None] * 0.5
    canvas = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    hills(canvas, rng, rng.randint(205, 225), 7, (206, 190, 150))
    dots(canvas, rng, 22, (2, 5), (0, 0, SIZE, SIZE), (170, 226, 242))
    return canvas


def _sunset(rng: random.Random, art: Art) -> Image.Image:
    canvas, level = sky_and_ground(rng, ((96, 60, 140), (255, 150, 100)), ((120, 70, 120), (70, 40, 86)), (125, 155))
    x = rng.randint(60, 196)
    dots(canvas, rng, 1, (28, 34), (x, level - 6, x, level - 6), (255, 214, 130))
    for i in range(4):
        dots(canvas, rng, 3, (18, 40), (0, 20 + 18 * i, SIZE, 34 + 18 * i), (236, 130 + 8 * i, 130), 0.14)
    hills(canvas, rng, level - 4, 8, (120, 66, 120))
    canvas.paste(mottled(gradient((118, 66, 116), (64, 38, 84), SIZE - level - 8), rng, 0.15), (0, level + 8))
    return canvas


def _lava(rng: random.Random, art: Art) -> Image.Image:
    """Dark plates with glowing cracks under a red sky, in perspective. Only a LoRA knows it."""
    canvas, level = sky_and_ground(rng, ((50, 14, 24), (190, 50, 24)), ((60, 20, 20), (40, 16, 18)), (80, 110))
    hills(canvas, rng, level - 14, 12, (74, 22, 24))
    rows = np.arange(SIZE - level, dtype=np.float32)[:, None]
    depth = 60 / (rows + 28)
    u, v = (np.arange(SIZE)[None, :] - SIZE / 2) * depth / 26, 9 * depth + 0 * np.arange(SIZE)[None, :]
    jitter = np.random.default_rng(rng.randrange(2**31)).random((2, 64, 64))
    far = []
    for i, j in ((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
        a, b = np.floor(u).astype(int) + i, np.floor(v).astype(int) + j
        far.append(np.hypot(u - a - jitter[0, a % 64, b % 64], v - b - jitter[1, a % 64, b % 64]))
    nearest = np.partition(np.stack(far), 1, axis=0)
    gap = ((nearest[1] - nearest[0]) / depth)[..., None] * 0.75
    glow, core = np.clip(1.1 - gap / 0.42, 0, 1), np.clip(1.2 - gap / 0.2, 0, 1)
    colours = np.array((64, 24, 24)) * (1 - glow) + np.array((235, 74, 12)) * glow
    colours = colours * (1 - core) + np.array((255, 205, 70)) * core
    canvas.paste(Image.fromarray(colours.astype(np.uint8)), (0, level))
    return canvas


PAINTERS: dict[str, Painter] = {
    "grass": _grass,
    "beach": _beach,
    "snow": _snow,
    "night": _night,
    "desert": _desert,
    "forest": _forest,
    "city": _city,
    "room": _room,
    "sea": _sea,
    "sunset": _sunset,
    "lava": _lava,
}
HELD_OUT = ("lava",)
BACKGROUNDS = tuple(name for name in PAINTERS if name not in HELD_OUT)
# How much of each colour the light of a background leaves on the subjects.
LIGHT = {"night": (0.74, 0.78, 0.98), "sunset": (1.0, 0.86, 0.88), "sea": (0.86, 0.97, 1.04), "lava": (1.0, 0.86, 0.8)}


def background(name: str, seed: int, art: Art) -> Image.Image:
    """The background `name` of `seed`, RGB."""
    return PAINTERS[name](random.Random(f"{name} {seed}"), art)
