"""Batches for training: latents with fresh captions, as tokens, and the silhouettes that their words' maps aim at."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from . import grounding
from .captions import Caption, Writer
from .latents import Data
from .model import Tokens, new_tokenizer


@dataclass
class Examples:
    """Latents (n, 4, 32, 32), their captions, and for each its subjects' silhouettes (subjects, 16, 16)."""

    latents: Tensor
    captions: list[Caption]
    silhouettes: list[Tensor]

    def __add__(self, other: Examples) -> Examples:
        latents = torch.cat([self.latents, other.latents])
        return Examples(latents, self.captions + other.captions, self.silhouettes + other.silhouettes)


@dataclass
class Batch:
    """Latents (n, 4, 32, 32), tokens (n, 77), and words to ground: row, position (words), shapes (words, 16, 16)."""

    latents: Tensor
    ids: Tensor
    rows: Tensor
    positions: Tensor
    shapes: Tensor

    def to(self, device: str) -> Batch:
        """The same on a device."""
        return Batch(*(part.to(device, non_blocking=True) for part in vars(self).values()))


def examples(data: Data, size: int, rng: random.Random) -> Examples:
    """Random latents with fresh captions, one in ten of them empty."""
    writer, chosen = Writer(rng), [rng.randrange(len(data.scenes)) for _ in range(size)]
    captions = [Caption() if rng.random() < 0.1 else writer.caption(data.scenes[i]) for i in chosen]
    latents, silhouettes = data.take(chosen)
    return Examples(latents, captions, silhouettes)


def prepare(found: Examples, tokens: Tokens) -> Batch:
    """Captions as tokens, and what their words' maps aim at."""
    ids = tokens.ids([[piece.text for piece in one.pieces] for one in found.captions])
    spans = [one.spans(tokens.count) for one in found.captions]
    return Batch(found.latents, ids, *grounding.targets(spans, found.silhouettes))


class _Stream(IterableDataset[Batch]):
    """Endless batches, other ones in every worker."""

    def __init__(self, data: Data, size: int, seed: int) -> None:
        self._data, self._size, self._seed = data, size, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = random.Random(f"{self._seed} {worker.id if worker else 0}")
        tokens = Tokens(new_tokenizer())
        while True:
            yield prepare(examples(self._data, self._size, rng), tokens)


def stream(data: Data, size: int, seed: int, workers: int) -> Iterator[Batch]:
    """Endless batches of `size`, made by `workers` processes beside this one, or by this one if 0."""
    return iter(DataLoader(_Stream(data, size, seed), batch_size=None, num_workers=workers))
