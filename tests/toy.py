"""A tiny network with the layers that the probe reads: cross-attention at several grids; and a denoiser over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clora.models.denoiser import Conditioned, Row


class Attention(nn.Module):
    def __init__(self, dim: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.to_q, self.to_k = nn.Linear(dim, dim, bias=False), nn.Linear(context, dim, bias=False)
        self.to_v = nn.Linear(context, dim, bias=False)
        self.to_out = nn.ModuleList([nn.Identity()])

    def probabilities(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        return (q @ k.transpose(-1, -2) * self.scale).softmax(-1), v

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        p, v = self.probabilities(x, context)
        mixed: Tensor = self.to_out[0]((p @ v).transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    def __init__(self, dim: int, context: int, heads: int) -> None:
        super().__init__()
        self.attn2 = Attention(dim, context, heads)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        flat = x.flatten(2).transpose(1, 2)
        return (flat + self.attn2(flat, context)).transpose(1, 2).unflatten(2, (h, w))


class ToyUNet(nn.Module):
    """Cross-attention at the latent's grid, a half, a quarter (twice) and the latent's again."""

    def __init__(self, dim: int = 8, context: int = 6, heads: int = 2) -> None:
        super().__init__()
        self.conv_in, self.conv_out = nn.Conv2d(4, dim, 3, padding=1), nn.Conv2d(dim, 4, 3, padding=1)
        self.blocks = nn.ModuleList(Block(dim, context, heads) for _ in range(5))
        self.calls = 0
        for block in self.blocks:
            nn.init.normal_(block.attn2.to_q.weight, std=1.0)
            nn.init.normal_(block.attn2.to_k.weight, std=1.0)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        self.calls += 1
        size = x.shape[-2:]
        x = self.blocks[0](self.conv_in(x), context)
        half = self.blocks[1](self._down(x), context)
        quarter = self.blocks[3](self.blocks[2](self._down(half), context), context)
        x = x + F.interpolate(quarter, size)
        return self.conv_out(self.blocks[4](x, context))

    @staticmethod
    def _down(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2, ceil_mode=True)


class ToyDenoiser:
    """Variants differ by their contexts; x = s z with `scale` = s."""

    complete, signal = True, 0.5

    def __init__(self, unet: ToyUNet, contexts: dict[tuple[int, bool], Tensor], scale: float = 1.0) -> None:
        self.unet, self.contexts, self.latent_scale = unet, contexts, scale
        self.rows_seen: list[tuple[Row, ...]] = []

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        self.rows_seen.append(rows)
        context = torch.stack([self.contexts[row.variant, row.conditional] for row in rows])
        dtype = next(self.unet.parameters()).dtype
        return self.unet((latent / self.latent_scale).to(dtype), context.to(dtype)).to(latent.dtype)

    def denoised(self, latent: Tensor, signal: float, rows: tuple[Row, ...]) -> Tensor:
        noise = self.predict(latent * self.latent_scale, rows)
        return (latent - (1 - signal) ** 0.5 * noise) / signal**0.5

    def conditioning(self, rows: tuple[Row, ...]) -> Conditioned:
        context = torch.stack([self.contexts[row.variant, row.conditional] for row in rows])
        return Conditioned(context, [row.variant for row in rows])

    @contextmanager
    def gradients(self) -> Iterator[None]:
        with torch.enable_grad():
            yield


def toy(variants: int = 3, tokens: int = 9, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> ToyDenoiser:
    """A toy denoiser with random contexts for `variants` variants of `tokens` text positions."""
    generator = torch.Generator().manual_seed(7)
    unet = ToyUNet().to(dtype)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    contexts = {
        (v, half): torch.randn(tokens, 6, generator=generator, dtype=torch.float64)
        for v in range(variants)
        for half in (True, False)
    }
    return ToyDenoiser(unet, contexts, scale)
