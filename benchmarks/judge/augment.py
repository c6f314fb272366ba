"""Degrades renders as generated pictures are: smudged by the autoencoder, wrong in colour, noisy, bent."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from research.shared.degrade import bend, blur, jag, pixel_grid, recolour, uniform


def smear(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Distort what is painted on things in lumps, blur and sharpen it, each crop (B, 3, S, S) by its own amount.

    Generators draw looks like that: with the right colours and positions, but eyes, stripes and rays run together.
    """
    size, count = crops.shape[-1], (len(crops), 1, 1, 1)
    lumps = torch.randn((len(crops), 2, 11, 11), generator=generator) * uniform(count, 0.0, 2.4, generator)
    field = F.interpolate(lumps * 2 / size, (size, size), mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    pulled = F.grid_sample(crops, pixel_grid(size) + field, padding_mode="border", align_corners=False)
    soft = blur(pulled, float(uniform((), 0.6, 1.6, generator)))
    pulled = torch.lerp(pulled, soft, uniform(count, 0.0, 1.0, generator))
    return (pulled + 0.5 * (pulled - blur(pulled, 1.5))).clamp(0, 1)


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Degraded copies of small pictures (B, 3, 128, 128) in [0, 1]; blur and ragged edges leave out a third each."""
    pictures = bend(recolour(pictures, generator), generator)
    part = len(pictures) // 3  # the batch is in random order
    sigma = float(uniform((), 0.4, 2.0, generator))
    blurred = blur(pictures[: 2 * part], sigma)
    pictures = torch.cat([blurred[:part], jag(torch.cat([blurred[part:], pictures[2 * part :]]), generator)])
    size = uniform((len(pictures), 1, 1, 1), 0.0, 0.05, generator)
    return (pictures + size * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)
