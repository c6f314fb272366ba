"""What one run of `benchmarks.unchanged` drew, and the facts of it that are written down."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

Facts = dict[str, Any]


@dataclass
class Drawn:
    """The end of a run and its way there: `path` holds latents, and masks where the host tells them."""

    latents: Tensor
    path: Sequence[Tensor | None]
    masks: Sequence[Tensor | None]
    pictures: Sequence[Image.Image]
    infotexts: Sequence[str]
    warnings: Sequence[str]

    def facts(self) -> Facts:
        """Everything as JSON has it; tensors and pictures by the hash of their bytes."""
        values = self.latents.detach().double()
        return {
            "latents": hash_of([self.latents]),
            "shape": list(values.shape),
            "dtype": str(self.latents.dtype).removeprefix("torch."),
            "mean": float(values.mean()),
            "std": float(values.std()),
            "path": hash_of(self.path),
            "path length": len(self.path),
            "masks": [hash_of([mask]) for mask in self.masks],
            "pictures": [hash_of_picture(picture) for picture in self.pictures],
            "infotexts": list(self.infotexts),
            "warnings": list(self.warnings),
        }


def hash_of(tensors: Iterable[Tensor | None]) -> str:
    """SHA-256 of the tensors' types, shapes and bytes, one after the other; None counts too."""
    found = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            found.update(b"none")
            continue
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().clone()
        found.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def hash_of_picture(picture: Image.Image) -> str:
    """SHA-256 of a picture's mode, size and pixels."""
    return hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).hexdigest()
