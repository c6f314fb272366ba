"""What generated pictures suffer and renders do not: smudged by the autoencoder, off in colour, noisy, bent."""

from __future__ import annotations

import torch
from torch import Tensor

from research.shared.degrade import bend, blur, jag, recolour, uniform


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (B, 3, 256, 256) in [0, 1], harmed; a part of each kind of harm spares a part of the batch."""
    pictures = bend(recolour(pictures, generator), generator, 5.0)
    part = len(pictures) // 3  # the batch is in random order
    blurred = blur(pictures[: 2 * part], float(uniform((), 0.4, 2.4, generator)))
    pictures = torch.cat([blurred[:part], jag(torch.cat([blurred[part:], pictures[2 * part :]]), generator)])
    size = uniform((len(pictures), 1, 1, 1), 0.0, 0.05, generator)
    return (pictures + size * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)
