"""Rows through A1111's own model wrapper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...lora.rows import RowLoras
from ...models import family_of
from ...models.denoiser import Conditioned, Row
from ..protocol import Evaluation, frozen
from .engine import A1111Engine


class A1111Denoiser:
    """`clora.models.denoiser.Denoiser` for A1111 at one evaluation; `inner` is the host's own model wrapper."""

    def __init__(self, model: A1111Engine, loras: RowLoras, *, timesteps: bool) -> None:
        self.model, self.loras, self.timesteps = model, loras, timesteps
        self.family = family_of(model.unet)
        self.inner: Callable[..., Tensor] | None = None
        self.image_cond: Tensor | None = None
        self.now: Evaluation | None = None
        self.marks: dict[bool, Tensor] = {}

    def at(self, evaluation: Evaluation) -> None:
        """Evaluate here from now on."""
        self.now = evaluation

    @property
    def latent_scale(self) -> float:
        """1 for the variance-preserving latents of DDIM and PLMS, the family's scale for k-diffusion's latents."""
        assert self.now is not None
        return 1.0 if self.timesteps else self.family.latent_scale(float(self.now.sigma[0]))

    @property
    def complete(self) -> bool:
        """True: extensions such as ControlNet act in the UNet itself."""
        return True

    @property
    def signal(self) -> float:
        """By the model's table for timestep samplers, else from the noise level."""
        assert self.now is not None
        if self.timesteps:
            return float(self.model.sd_model.alphas_cumprod[int(self.now.sigma[0])])
        return 1.0 / self.latent_scale**2

    def denoised(self, latent: Tensor, signal: float, rows: tuple[Row, ...]) -> Tensor:
        """Through the same wrapper: k-diffusion's takes x = z / sqrt(signal), the other one timesteps."""
        assert self.now is not None
        kept, spread = signal**0.5, (1.0 - signal) ** 0.5
        if not self.timesteps:
            return self._evaluated(latent / kept, torch.full_like(self.now.sigma, spread / kept), rows, None)
        timestep = float((self.model.sd_model.alphas_cumprod - signal).abs().argmin())
        noise = self._evaluated(latent, torch.full_like(self.now.sigma, timestep), rows, None)
        x0: Tensor = (latent - spread * noise) / kept
        return x0

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        """The host's prediction for rows: x0 for k-diffusion samplers, the noise for timestep samplers."""
        assert self.now is not None
        return self._evaluated(latent, self.now.sigma, rows, vectors)

    def _evaluated(self, latent: Tensor, level: Tensor, rows: tuple[Row, ...], vectors: Tensor | None) -> Tensor:
        """The wrapper's prediction at the noise `level` (B,) of each image."""
        assert self.inner is not None
        assert self.image_cond is not None
        images = torch.tensor([row.image for row in rows], device=latent.device)
        own = self.conditioning(rows)
        context = own.contexts
        if self.marks:
            context = torch.cat(
                [torch.stack([self.marks[row.conditional].to(context) for row in rows]), context], dim=1
            )
        # A new dict each time, because the host rewrites its entries.
        cond: dict[str, Any] = {"c_concat": [self.image_cond[images]]}
        if self.model.sdxl:
            cond |= {"crossattn": context, "vector": own.vectors if vectors is None else vectors}
        else:
            cond["c_crossattn"] = [context]
        with self.loras.rows(own.sets):
            return self.inner(latent, level[images], cond=cond).to(latent.dtype)

    def conditioning(self, rows: tuple[Row, ...]) -> Conditioned:
        """The rows' contexts, LoRA sets and pooled vectors."""
        assert self.now is not None
        return self.now.conditioning.conditioned(rows)

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Gradients with respect to the latent only."""
        with frozen(self.model.unet), torch.enable_grad():
            yield
