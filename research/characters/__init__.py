"""A world of characters for the embedded model: scenes, training, LoRAs, the judge. See README.md.

from research.characters.art import packed
from research.characters.captions import Writer
from research.characters.render import Renderer
from research.characters.scene import random_scene

rng = random.Random(0)
scene = random_scene(rng)
picture, caption = Renderer(packed(path)).render(scene), Writer(rng).caption(scene).text
"""
