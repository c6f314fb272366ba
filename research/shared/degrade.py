"""Degrades renders as generated pictures are: smudged by the autoencoder, wrong in colour, bent, ragged."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def smudge(vae: Any, pictures: Tensor, generator: torch.Generator, *, bfloat16: bool = False) -> Tensor:
    """Renders (B, 3, H, W) in [0, 1] through the autoencoder, with noise of up to 0.4 on their latents.

    A generator's latents are never exactly those of a render, so the decoder smudges its pictures. `bfloat16`
    computes in half precision.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        latents = vae.encode(pictures * 2 - 1).latent_dist.mean.float() * vae.config.scaling_factor
    size = 0.4 * torch.rand(len(latents), 1, 1, 1, generator=generator)
    coarse = torch.rand(len(latents), 1, 1, 1, generator=generator) < 0.4
    noise = torch.randn(latents.shape, generator=generator)
    soft = F.avg_pool2d(torch.randn(latents.shape, generator=generator), 3, 1, 1) * 3
    latents = latents + size * torch.where(coarse, soft, noise)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        drawn: Tensor = vae.decode(latents / vae.config.scaling_factor).sample
    return (drawn.float() / 2 + 0.5).clamp(0, 1)


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Random numbers from `low` to `high`."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def recolour(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Change hue, saturation, contrast and brightness a little, differently in each picture (B, 3, H, W)."""
    count = (len(pictures), 1, 1, 1)
    grey = pictures.mean(1, keepdim=True)
    pictures = grey + (pictures - grey) * uniform(count, 0.6, 1.25, generator)
    angle = uniform((len(pictures),), -0.16, 0.16, generator)
    pictures = torch.einsum("bij,bjhw->bihw", _rotations(angle), pictures)
    middle = pictures.mean((1, 2, 3), keepdim=True)
    pictures = middle + (pictures - middle) * uniform(count, 0.75, 1.2, generator)
    return pictures + uniform((len(pictures), 3, 1, 1), -0.07, 0.07, generator)


def _rotations(angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) of the colour cube around its grey axis."""
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None] / math.sqrt(3)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return c * torch.eye(3) + (1 - c) / 3 + s * cross


def bend(pictures: Tensor, generator: torch.Generator, strength: float = 3.0) -> Tensor:
    """Shift pixels by up to `strength` of 128, smoothly (B, 3, H, W)."""
    size = pictures.shape[-1]
    coarse = uniform((len(pictures), 2, 5, 5), -1, 1, generator) * strength * 2 / size
    field = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return F.grid_sample(pictures, pixel_grid(size) + field, padding_mode="reflection", align_corners=False)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur (B, 3, H, W)."""
    axis = torch.arange(-3, 4).float()
    line = (-(axis**2) / (2 * sigma**2)).exp()
    line = (line / line.sum()).expand(3, 1, 7)
    padded = F.pad(pictures, (3, 3, 3, 3), mode="reflect")
    return F.conv2d(F.conv2d(padded, line[..., None, :], groups=3), line[..., None], groups=3)


def jag(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Add ragged edges and blotches as large as a latent cell, then sharpen edges (B, 3, 128, 128).

    This imitates what an autoencoder makes of a slightly wrong latent, in a hundredth of the time.
    """
    amount = torch.rand(len(pictures), 1, 1, 1, generator=generator)
    shape = (len(pictures), 2, 32, 32)
    size = pictures.shape[-1]
    shift = F.interpolate(torch.randn(shape, generator=generator), (size, size), mode="bilinear", align_corners=False)
    field = (shift * amount * 2.6 / size).permute(0, 2, 3, 1)
    pictures = F.grid_sample(pictures, pixel_grid(size) + field, padding_mode="reflection", align_corners=False)
    blotches = torch.randn((len(pictures), 3, 32, 32), generator=generator)
    pictures = pictures + 0.12 * amount * F.interpolate(blotches, (size, size), mode="bicubic", align_corners=False)
    sharp = uniform((len(pictures), 1, 1, 1), 0.0, 1.2, generator)
    return (pictures + sharp * (pictures - blur(pictures, 1.5))).clamp(0, 1)


def pixel_grid(size: int) -> Tensor:
    """Positions of pixels in the coordinates of `grid_sample`, (size, size, 2)."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
