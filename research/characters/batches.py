"""Batches for training: latents with fresh captions, as tokens, and the silhouettes that their words' maps aim at."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from . import grounding, parts
from .captions import Caption, Writer
from .latents import Data
from .model import Tokens, new_tokenizer
from .scene import Scene

CROP = 16  # cells of a crop's latent, both ways: a quarter of a picture at a quarter of its cost
CLOSE = "close up"  # the words that tell the model that a picture is a crop


@dataclass
class Examples:
    """Latents (n, 4, h, w), their captions, and for each its subjects' silhouettes (subjects, h/2, w/2).

    `labels` are what each cell shows, (h/2, w/2) and (2, h/2, w/2), for each picture (`parts.labels`); they may be
    left out.
    """

    latents: Tensor
    captions: list[Caption]
    silhouettes: list[Tensor]
    labels: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __add__(self, other: Examples) -> Examples:
        latents, shapes = torch.cat([self.latents, other.latents]), self.silhouettes + other.silhouettes
        return Examples(latents, self.captions + other.captions, shapes, self.labels + other.labels)


@dataclass
class Batch:
    """Latents (n, 4, h, w), tokens (n, 77), words to ground (row, position: (words), shapes: (words, h/2, w/2)), and
    what the cells show, if it is known: kinds (n, h/2, w/2), places (n, 2, h/2, w/2)."""

    latents: Tensor
    ids: Tensor
    rows: Tensor
    positions: Tensor
    shapes: Tensor
    kinds: Tensor
    places: Tensor

    def to(self, device: str) -> Batch:
        """The same on a device."""
        return Batch(*(part.to(device, non_blocking=True) for part in vars(self).values()))


def examples(data: Data, size: int, rng: random.Random) -> Examples:
    """Random latents with fresh captions, one in ten of them empty."""
    writer, chosen = Writer(rng), [rng.randrange(len(data.scenes)) for _ in range(size)]
    captions = [Caption() if rng.random() < 0.1 else writer.caption(data.scenes[i]) for i in chosen]
    latents, silhouettes = data.take(chosen)
    told = [parts.labels(list(data.scenes[i].subjects), shape) for i, shape in zip(chosen, silhouettes, strict=True)]
    return Examples(latents, captions, silhouettes, told)


def crops(data: Data, size: int, rng: random.Random) -> Examples:
    """Random crops round subjects, with captions of what is in them: the same looks at a quarter of the cost.

    Training on crops first follows Patch Diffusion (Wang et al., arXiv 2304.12526).
    """
    writer, latents, captions, shapes, told = Writer(rng), [], [], [], []
    for i in [rng.randrange(len(data.scenes)) for _ in range(size)]:
        scene = data.scenes[i]
        (latent,), (shape,) = data.take([i])
        left, top = _corner(scene, rng)
        latents.append(latent[:, 2 * top : 2 * top + CROP, 2 * left : 2 * left + CROP])
        inside = shape[:, top : top + CROP // 2, left : left + CROP // 2]
        seen = [j for j in range(len(shape)) if inside[j].sum() > 0.5 * shape[j].sum() and inside[j].sum() > 3]
        shapes.append(inside[seen])
        told.append(parts.labels(list(scene.subjects), inside, left, top))
        captions.append(Caption() if rng.random() < 0.1 or not seen else writer.caption(_only(scene, seen), CLOSE))
    return Examples(torch.stack(latents), captions, shapes, told)


def _corner(scene: Scene, rng: random.Random) -> tuple[int, int]:
    """Left and top cell, of 16 x 16, of a crop round one of the subjects."""
    one, half = rng.choice(scene.subjects), CROP // 4
    cells = [rng.gauss(place, 0.12 * one.side) / 16 - half for place in (one.x, one.y)]
    left, top = (min(max(round(cell), 0), 16 - 2 * half) for cell in cells)
    return left, top


def _only(scene: Scene, kept: list[int]) -> Scene:
    """The scene with some of its subjects; a relation stays if both of its subjects do."""
    relation = scene.relation
    if relation and {*relation[1:]} <= {*kept}:
        relation = (relation[0], kept.index(relation[1]), kept.index(relation[2]))
    else:
        relation = None
    return replace(scene, subjects=tuple(scene.subjects[i] for i in kept), relation=relation)


def prepare(found: Examples, tokens: Tokens) -> Batch:
    """Captions as tokens, and what their words' maps aim at."""
    ids = tokens.ids([[piece.text for piece in one.pieces] for one in found.captions])
    spans = [one.spans(tokens.count) for one in found.captions]
    told = found.labels or [(torch.zeros(0, 0, dtype=torch.long), torch.zeros(2, 0, 0, dtype=torch.long))]
    kinds, places = (torch.stack(one) for one in zip(*told, strict=True))
    return Batch(found.latents, ids, *grounding.targets(spans, found.silhouettes), kinds, places)


Maker = Callable[[Data, int, random.Random], Examples]


class _Stream(IterableDataset[Batch]):
    """Endless batches, other ones in every worker."""

    def __init__(self, data: Data, size: int, seed: int, make: Maker) -> None:
        self._data, self._size, self._seed, self._make = data, size, seed, make

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = random.Random(f"{self._seed} {worker.id if worker else 0}")
        tokens = Tokens(new_tokenizer())
        while True:
            yield prepare(self._make(self._data, self._size, rng), tokens)


def stream(data: Data, size: int, seed: int, workers: int, make: Maker = examples) -> Iterator[Batch]:
    """Endless batches of `size`, made by `workers` processes beside this one, or by this one if 0."""
    return iter(DataLoader(_Stream(data, size, seed, make), batch_size=None, num_workers=workers))
