"""Pictures to train the autoencoder on: the base's world, and all that only LoRAs know."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from research.shared.training import to_tensor

from .art import packed
from .backgrounds import SIZE
from .render import Renderer
from .scene import Scene, random_scene
from .styles import STYLES
from .words import CHARACTERS, GROUPS, WORDS

CROP = 96


def any_scene(rng: random.Random) -> Scene:
    """A scene of the base's world, or one with the characters, styles and backgrounds that only LoRAs know."""
    names = None
    if rng.random() < 0.35:
        names = [rng.choice(list(CHARACTERS))]
        names += rng.sample([*CHARACTERS, *WORDS, *GROUPS["person"], *GROUPS["person"]], rng.randint(0, 2))
    scene = random_scene(rng, names, "lava" if rng.random() < 0.06 else None)
    if rng.random() < 0.8:
        return scene
    style = rng.choice(list(STYLES))
    if rng.random() < 0.6:
        return replace(scene, style=style)
    return replace(scene, subjects=(replace(scene.subjects[0], style=style), *scene.subjects[1:]))


@dataclass
class Pool:
    """Pictures (n, 3, SIZE, SIZE) in bytes with their scenes."""

    pictures: Tensor
    scenes: list[Scene]

    def crops(self, count: int, rng: random.Random, device: str) -> Tensor:
        """Crops (count, 3, CROP, CROP) in [-1, 1], three in four round the upper half of a subject, where faces are."""
        cut = []
        for _ in range(count):
            i = rng.randrange(len(self.scenes))
            x, y = rng.uniform(0, SIZE), rng.uniform(0, SIZE)
            if rng.random() < 0.75:
                one = rng.choice(self.scenes[i].subjects)
                x, y = rng.gauss(one.x, 0.2 * one.side), rng.gauss(one.y - 0.1 * one.side, 0.2 * one.side)
            left, top = (min(max(round(v - CROP / 2), 0), SIZE - CROP) for v in (x, y))
            cut.append(self.pictures[i, :, top : top + CROP, left : left + CROP])
        return torch.stack(cut).to(device).float() / 127.5 - 1


def _piece(job: tuple[Path, str, int]) -> Pool:
    work, seed, count = job
    torch.set_num_threads(1)
    rng, renderer = random.Random(seed), Renderer(packed(work / "art.zip"))
    scenes = [any_scene(rng) for _ in range(count)]
    return Pool(torch.stack([to_tensor(renderer.render(scene)) for scene in scenes]), scenes)


def draw_pool(count: int, work: Path, seed: int, processes: int) -> Pool:
    """`count` random pictures, drawn by several processes."""
    jobs = [(work, f"{seed} {i}", 100) for i in range(count // 100)]
    with get_context("spawn").Pool(processes) as workers:
        parts = workers.map(_piece, jobs, chunksize=1)
    return Pool(torch.cat([part.pictures for part in parts]), [scene for part in parts for scene in part.scenes])
