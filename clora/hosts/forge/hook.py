"""How Forge's sampler is answered: by a function wrapper on a clone of the UNet's patcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import host_api
from ..protocol import EvaluationHandler
from ..sampler_hook import SamplerHook
from .denoiser import ForgeDenoiser
from .engine import ForgeEngine

_BYTES_PER_CELL = 75_000
"""Activations that an update keeps per latent cell, row and byte of the dtype; measured."""


class ForgeSamplerHook(SamplerHook):
    """`SamplerHook` for Forge, whose model works on k-diffusion's latents whatever the sampler does."""

    def __init__(
        self, model: ForgeEngine, processing: Any, handler: EvaluationHandler, denoiser: ForgeDenoiser
    ) -> None:
        self.engine, self.denoiser = model, denoiser
        self._objects = model.sd_model.forge_objects
        self._original = self._objects.unet
        self._clone = self._original.clone()
        # A function of its own: the patcher's clone() copies bound methods together with their instance.
        self._wrapper = lambda apply, given: self._answer(apply, given)
        self._clone.model_options["model_function_wrapper"] = self._wrapper
        rows = len({row for row in handler.rows if row.conditional})
        cells = processing.width * processing.height // denoiser.family.spatial_factor**2
        self._clone.add_extra_preserved_memory_during_sampling(
            _BYTES_PER_CELL * cells * rows * _bytes_per_value(self._original)
        )
        self._objects.unet = self._clone
        super().__init__(model, processing.sampler, handler)

    def remove(self) -> None:
        """Remove hooks and wrapper."""
        super().remove()
        if self._objects.unet is self._clone:
            self._objects.unet = self._original
        # Other extensions may have cloned the patcher with the wrapper on (ControlNet does before a hires pass).
        for patcher in (self._clone, self._objects.unet, self.engine.patcher):
            if patcher.model_options.get("model_function_wrapper") is self._wrapper:
                del patcher.model_options["model_function_wrapper"]

    @property
    def on_timesteps(self) -> bool:
        """Forge's own mark of samplers that work on timesteps."""
        return bool(getattr(self.cfg, "classic_ddim_eps_estimation", False))

    def timestep(self, sigma: Tensor) -> float:
        """By the model's own table of noise levels."""
        if self.on_timesteps:
            return float(sigma[0])
        return float(self.engine.noise_levels.timestep(sigma[:1]).float()[0])

    def model_sigma(self, sigma: Tensor) -> Tensor:
        """Forge turns timesteps into noise levels before its model sees them."""
        if not self.on_timesteps:
            return sigma
        alphas = self.cfg.inner_model.inner_model.alphas_cumprod
        levels = ((1 - alphas) / alphas) ** 0.5
        return levels.to(sigma.device)[sigma.round().long().clip(0, len(levels) - 1)]  # type: ignore[no-any-return]

    def model_scale(self, sigma: Tensor) -> float:
        """Timestep samplers hold variance-preserving latents, which Forge itself brings to sigma space."""
        return self.denoiser.family.latent_scale(float(sigma[0])) if self.on_timesteps else 1.0

    def prepare(self, arguments: Mapping[str, Any]) -> None:
        """The inpainting condition."""
        cond, fallback = self._original.extra_concat_condition, arguments["image_cond"]
        self.denoiser.image_cond = _fitting(cond if cond is not None else fallback, arguments["x"])

    @host_api.refusing()
    def _answer(self, apply: Callable[..., Tensor], given: Mapping[str, Any]) -> Tensor:
        """Fused predictions for the halves that the host batches together here (0 conditional, 1 unconditional)."""
        x, halves, c = given["input"], given["cond_or_uncond"], given["c"]
        if self.x is None:
            self.check()
            return apply(x, given["timestep"], **c)
        batch = x.shape[0] // len(halves)
        self.denoiser.host_options = dict(c.get("transformer_options", {}))
        self._keep_control(c.get("control"), halves, batch)
        cond, uncond = self.predictions(x[:batch], 1 in halves)
        return torch.cat([cond if half == 0 or uncond is None else uncond for half in halves])

    def _keep_control(self, control: Any, halves: Sequence[int], batch: int) -> None:
        """Keep ControlNet's hints, row by row, for CLoRA's own forwards."""
        if control is None:
            return
        for part, half in enumerate(halves):
            for image in range(batch):
                row = slice(part * batch + image, part * batch + image + 1)
                self.denoiser.control[image, half == 0] = {
                    name: [None if hint is None else hint[row] for hint in hints] for name, hints in control.items()
                }


def _fitting(cond: Any, x: Tensor) -> Tensor | None:
    """The inpainting condition where it has the batch and size of `x`, else None."""
    if isinstance(cond, Tensor) and cond.shape[0] == x.shape[0] and cond.shape[2:] == x.shape[2:]:
        return cond
    return None


def _bytes_per_value(patcher: Any) -> int:
    """Of the UNet's activations; 0 on the CPU, where Forge manages no memory.

    Not of its weights: they may be narrower, and Forge brings them to the device only after this.
    """
    parameter = next(patcher.model.diffusion_model.parameters())
    device: torch.device = getattr(patcher, "load_device", parameter.device)
    dtype: torch.dtype = getattr(patcher.model, "computation_dtype", parameter.dtype)
    return 0 if device.type == "cpu" else torch.empty(0, dtype=dtype).element_size()
