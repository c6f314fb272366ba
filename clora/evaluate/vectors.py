"""Feature vectors of pictures, crops and texts, each computed once and stored."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .features import Features
from .segmenter import Box
from .store import Store, digest

Vector: TypeAlias = NDArray[np.float32]
Ticker: TypeAlias = Callable[[int], Any]
BATCH = 16


@dataclass(frozen=True)
class View:
    """A picture of the store, or the part of it in `box`."""

    picture: str
    box: Box | None = None

    @property
    def name(self) -> str:
        """Its name in keys."""
        return self.picture if self.box is None else f"{self.picture}@{','.join(map(str, self.box))}"


def encode(vector: Vector) -> str:
    """A vector as base64 text."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode("ascii")


def decode(text: str) -> Vector:
    """The vector of a base64 text."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


class Vectors:
    """The vectors of one extractor, normalized to length 1, kept in a store."""

    def __init__(self, store: Store, features: Features) -> None:
        self.store, self.features = store, features

    def _key(self, name: str) -> str:
        return f"{self.features.identity}|{name}"

    def missing(self, views: Iterable[View]) -> list[View]:
        """The views whose vectors are not yet stored, without duplicates."""
        return [view for view in dict.fromkeys(views) if self._key(view.name) not in self.store.vectors]

    def compute(self, views: Iterable[View], tick: Ticker) -> None:
        """Compute the missing vectors in batches; `tick` is called with the number done."""
        views = self.missing(views)
        for start in range(0, len(views), BATCH):
            batch = views[start : start + BATCH]
            pictures = [self.store.picture(view.picture) for view in batch]
            parts = [p if v.box is None else p.crop(v.box) for p, v in zip(pictures, batch, strict=True)]
            self._keep([view.name for view in batch], self.features.image(parts))
            tick(len(batch))

    def view(self, view: View) -> Vector:
        """The stored vector (D,) of a view."""
        return self._get(view.name)

    def views(self, views: Sequence[View]) -> Vector:
        """The stored vectors (N, D) of views."""
        return np.stack([self.view(view) for view in views])

    def text(self, text: str) -> Vector:
        """The vector (D,) of a text."""
        name = f"text:{digest(text)}"
        if self._key(name) not in self.store.vectors:
            self._keep([name], self.features.text([text]))
        return self._get(name)

    def _keep(self, names: Sequence[str], found: Tensor) -> None:
        for name, vector in zip(names, found.numpy(), strict=True):
            length = max(float(np.linalg.norm(vector)), 1e-12)
            self.store.vectors.put(self._key(name), {"vector": encode(vector / length)})

    def _get(self, name: str) -> Vector:
        entry = self.store.vectors.get(self._key(name))
        if entry is None:
            raise KeyError(name)
        return decode(entry["vector"])
