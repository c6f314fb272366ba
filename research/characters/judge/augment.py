"""What generated pictures suffer and renders do not: smudged by the autoencoder, off in colour, noisy, bent."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def smudge(vae: Any, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Renders (B, 3, H, W) in [0, 1] through the autoencoder, with noise of up to 0.4 on their latents.

    A generator's latents are never quite those of a render, and its pictures smudge accordingly.
    """
    latents = vae.encode(pictures * 2 - 1).latent_dist.mean * vae.config.scaling_factor
    size = 0.4 * torch.rand(len(latents), 1, 1, 1, generator=generator)
    coarse = torch.rand(len(latents), 1, 1, 1, generator=generator) < 0.4
    noise = torch.randn(latents.shape, generator=generator)
    soft = F.avg_pool2d(torch.randn(latents.shape, generator=generator), 3, 1, 1) * 3
    latents = latents + size * torch.where(coarse, soft, noise)
    drawn: Tensor = vae.decode(latents / vae.config.scaling_factor).sample
    return (drawn / 2 + 0.5).clamp(0, 1)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def recolour(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Hue, saturation, contrast and brightness a little off, one change per picture (B, 3, H, W)."""
    count = (len(pictures), 1, 1, 1)
    grey = pictures.mean(1, keepdim=True)
    pictures = grey + (pictures - grey) * _uniform(count, 0.6, 1.25, generator)
    angle = _uniform((len(pictures),), -0.16, 0.16, generator)
    pictures = torch.einsum("bij,bjhw->bihw", _turns(angle), pictures)
    middle = pictures.mean((1, 2, 3), keepdim=True)
    pictures = middle + (pictures - middle) * _uniform(count, 0.75, 1.2, generator)
    return pictures + _uniform((len(pictures), 3, 1, 1), -0.07, 0.07, generator)


def _turns(angle: Tensor) -> Tensor:
    """Turns (B, 3, 3) of the colour cube round its grey axis."""
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None] / math.sqrt(3)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return c * torch.eye(3) + (1 - c) / 3 + s * cross


def bend(pictures: Tensor, generator: torch.Generator, strength: float = 3.0) -> Tensor:
    """Shift each place by up to some pixels of 128, smoothly (B, 3, H, W)."""
    size = pictures.shape[-1]
    coarse = _uniform((len(pictures), 2, 5, 5), -1, 1, generator) * strength * 2 / size
    field = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return F.grid_sample(pictures, _grid(size) + field, padding_mode="reflection", align_corners=False)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur (B, 3, H, W)."""
    axis = torch.arange(-3, 4).float()
    line = (-(axis**2) / (2 * sigma**2)).exp()
    line = (line / line.sum()).expand(3, 1, 7)
    padded = F.pad(pictures, (3, 3, 3, 3), mode="reflect")
    return F.conv2d(F.conv2d(padded, line[..., None, :], groups=3), line[..., None], groups=3)


def jag(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Ragged edges and blotches as large as a cell of the latent, then edges sharpened (B, 3, 128, 128).

    It is what an autoencoder makes of a latent that is a little off, at a hundredth of its time.
    """
    amount = torch.rand(len(pictures), 1, 1, 1, generator=generator)
    shape = (len(pictures), 2, 32, 32)
    size = pictures.shape[-1]
    shift = F.interpolate(torch.randn(shape, generator=generator), (size, size), mode="bilinear", align_corners=False)
    field = (shift * amount * 2.6 / size).permute(0, 2, 3, 1)
    pictures = F.grid_sample(pictures, _grid(size) + field, padding_mode="reflection", align_corners=False)
    blotches = torch.randn((len(pictures), 3, 32, 32), generator=generator)
    pictures = pictures + 0.12 * amount * F.interpolate(blotches, (size, size), mode="bicubic", align_corners=False)
    sharp = _uniform((len(pictures), 1, 1, 1), 0.0, 1.2, generator)
    return (pictures + sharp * (pictures - blur(pictures, 1.5))).clamp(0, 1)


def _grid(size: int) -> Tensor:
    """Places of pixels as `grid_sample` counts them, (size, size, 2)."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (B, 3, 256, 256) in [0, 1], harmed; a part of each kind of harm spares a part of the batch."""
    pictures = bend(recolour(pictures, generator), generator, 5.0)
    part = len(pictures) // 3  # the batch is in random order
    blurred = blur(pictures[: 2 * part], float(_uniform((), 0.4, 2.4, generator)))
    pictures = torch.cat([blurred[:part], jag(torch.cat([blurred[part:], pictures[2 * part :]]), generator)])
    size = _uniform((len(pictures), 1, 1, 1), 0.0, 0.05, generator)
    return (pictures + size * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)
