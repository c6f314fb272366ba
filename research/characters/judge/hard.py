"""Scenes to learn from: right subjects, and what a generator may draw instead of them.

Wrong ones are blends of two subjects (halves, mixed evenly, in patches) and subjects in another's colours.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ..art import Array, Art
from ..backgrounds import PAINTERS, clouds
from ..render import Renderer
from ..scene import Scene, Subject, random_names, random_scene
from ..words import CHARACTERS, GROUPS, WEARABLE, WORDS

NAMES = (*WORDS, *CHARACTERS)
WRONG = len(NAMES)  # the class of what is none of them
STYLES = ("none", "pencil", "gold", "comic")
BACKGROUNDS = tuple(PAINTERS)
WAYS = ("left", "top", "even", "patches", "colours")


@dataclass(frozen=True)
class Label:
    """One subject as drawn: class number (NAMES, or WRONG), style number, centre and side in pixels, part seen."""

    name: int
    style: int
    x: float
    y: float
    side: float
    seen: float


class BlendArt(Art):
    """Art that also has blends: files named "WAY|SEED|file|recolour|file|recolour"."""

    def __init__(self, art: Art) -> None:
        super().__init__(lambda file: art.picture(file))
        self._art = art

    def picture(self, file: str, recolour: str | None = None) -> Image.Image:
        """The picture, or the blend that the name describes."""
        if "|" not in file:
            return self._art.picture(file, recolour)
        way, seed, *parts = file.split("|")
        first, second = (self._art.picture(parts[i], parts[i + 1] or None) for i in (0, 2))
        return blend(first, second, way, random.Random(seed))


def blend(first: Image.Image, second: Image.Image, way: str, rng: random.Random) -> Image.Image:
    """A picture that is partly one and partly the other, each at least by a third."""
    if way == "colours":
        return turned(first, rng.uniform(0.25, 0.75))
    second = second.resize(first.size)
    a, b = (np.asarray(picture, np.float32) for picture in (first, second))
    height, width = a.shape[:2]
    share: Array
    if way == "left":
        share = np.broadcast_to((np.arange(width) < rng.uniform(0.4, 0.6) * width)[None, :], (height, width))
    elif way == "top":
        share = np.broadcast_to((np.arange(height) < rng.uniform(0.35, 0.65) * height)[:, None], (height, width))
    elif way == "even":
        share = np.full((height, width), rng.uniform(0.38, 0.62), np.float32)
    else:
        noise = clouds(rng, (width, height), 5)
        share = noise > np.quantile(noise, rng.uniform(0.4, 0.6))
    return Image.fromarray((a * share[..., None] + b * (1 - share[..., None])).astype(np.uint8))


def turned(picture: Image.Image, angle: float) -> Image.Image:
    """The picture with its hues turned by a part of the circle."""
    hue, saturation, value = picture.convert("RGB").convert("HSV").split()
    hue = hue.point([round(v + 255 * angle) % 256 for v in range(256)])
    saturation = saturation.point([min(255, round(1.2 * v)) for v in range(256)])
    drawn = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    drawn.putalpha(picture.getchannel("A"))
    return drawn


def _file(name: str, rng: random.Random) -> str:
    """File and recolouring of a name, as blends' names hold them."""
    if name in CHARACTERS:
        return f"{CHARACTERS[name].file}|{CHARACTERS[name].recolour or ''}"
    return f"{rng.choice(WORDS[name].files)}|"


def _wrong(one: Subject, rng: random.Random) -> Subject:
    """The subject blended with another, one of the same class most often."""
    persons = (*GROUPS["person"], "genie", "singer", "detective", "troll")
    alike = persons if one.kind == "person" or one.kind in GROUPS["person"] else NAMES
    if one.kind in WEARABLE:
        alike = (*WEARABLE, "tophat")
    pool = [name for name in (alike if rng.random() < 0.7 else NAMES) if name != one.name]
    way = rng.choice(WAYS[:4] if rng.random() < 0.85 else WAYS)
    if way == "colours" and _grey(one):
        way = "even"
    file = "|".join((way, str(rng.randrange(10**6)), _file(one.name, rng), _file(rng.choice(pool), rng)))
    return replace(one, name="wrong", file=file)


def _grey(one: Subject) -> bool:
    """Whether its colours are too weak to tell when they are turned."""
    return one.name in ("panda", "ghost", "elephant", "poodle", "tabby", "rabbit", "astronaut")


def hard_scene(rng: random.Random, wrong: float = 0.3) -> Scene:
    """A scene of words and characters, some of them wrong, at times in a style, wholly or in part."""
    names = random_names(rng.choices((1, 2, 3, 4), (0.2, 0.45, 0.25, 0.1))[0], rng)
    names = [rng.choice(list(CHARACTERS)) if rng.random() < 0.5 else name for name in names]
    scene = random_scene(rng, names, rng.choice(BACKGROUNDS))
    subjects = [_wrong(one, rng) if rng.random() < wrong else one for one in scene.subjects]
    drawn = rng.random()
    if drawn < 0.2:
        return replace(scene, subjects=tuple(subjects), style=rng.choice(STYLES[1:]))
    if drawn < 0.45:
        subjects = [replace(one, style=rng.choice(STYLES[1:])) if rng.random() < 0.5 else one for one in subjects]
    return replace(scene, subjects=tuple(subjects))


def draw(renderer: Renderer, scene: Scene) -> tuple[Image.Image, list[Label]]:
    """The picture and what is in it."""
    picture, masks = renderer.layers(scene)
    labels = []
    for one, mask in zip(scene.subjects, masks, strict=True):
        drawn = renderer.art.draw(one.file, one.recolour, one.side)
        whole = np.asarray(drawn.getchannel("A"), np.float32).sum() / 255
        name = WRONG if one.name == "wrong" else NAMES.index(one.name)
        style = STYLES.index(scene.style or one.style or "none")
        labels.append(Label(name, style, one.x, one.y, one.side, float(mask.sum() / max(whole, 1))))
    return picture, labels
