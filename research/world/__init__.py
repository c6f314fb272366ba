"""The synthetic world the embedded model knows: scenes, their pictures and their captions.

rng = random.Random(0)
scene = sample_scene(rng)
picture, text = render(scene), caption(scene, rng)
thing = Thing("ball", look="sunball")
picture = render(sample_scene(rng, (thing, random_thing(rng))))
"""

from .captions import BACKGROUND_PHRASES, caption, order
from .looks import LOOKS, Look
from .render import render, silhouette, tile
from .scene import (
    BACKGROUNDS,
    CLASSES,
    COLOURS,
    SIZE,
    TEXTURES,
    TYPICAL,
    Scene,
    Thing,
    arrange,
    random_thing,
    sample_scene,
)

__all__ = [
    "BACKGROUNDS",
    "BACKGROUND_PHRASES",
    "CLASSES",
    "COLOURS",
    "LOOKS",
    "SIZE",
    "TEXTURES",
    "TYPICAL",
    "Look",
    "Scene",
    "Thing",
    "arrange",
    "caption",
    "order",
    "random_thing",
    "render",
    "sample_scene",
    "silhouette",
    "tile",
]
