"""Hooks on the sampler's denoiser and a wrapper on a clone of the UNet's patcher, for the time of one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import host_api
from ..protocol import Evaluator, bound_arguments, denoiser_hooks, sampler_position
from .denoiser import ForgeDenoiser
from .engine import ForgeEngine

_BYTES_PER_CELL = 75_000  # activations that an update keeps per latent cell, row and byte of the dtype, measured


class Attached:
    """Hooks on the sampler's denoiser and a wrapper on the UNet's patcher during one pass."""

    def __init__(self, model: ForgeEngine, p: Any, evaluator: Evaluator, denoiser: ForgeDenoiser) -> None:
        self.model, self.sampler, self.evaluator, self.denoiser = model, p.sampler, evaluator, denoiser
        self.cfg = p.sampler.model_wrap_cfg
        self.count, self.first_t = 0, 0.0
        self.x: Tensor | None = None
        self.scale = 1.0
        self.found: tuple[Tensor, Tensor | None] | None = None
        self.objects = model.sd_model.forge_objects
        self.before_us = self.objects.unet
        self.ours = self.before_us.clone()
        # A function of its own: the patcher's clone() copies bound methods together with their instance.
        self.wrapper = lambda apply, given: self._answer(apply, given)
        self.ours.model_options["model_function_wrapper"] = self.wrapper
        rows = len({row for row in evaluator.rows if row.conditional})
        cells = p.width * p.height // 64
        self.ours.add_extra_preserved_memory_during_sampling(_BYTES_PER_CELL * cells * rows * _bytes(model.unet))
        self.objects.unet = self.ours
        self.handles = denoiser_hooks(self.cfg, self._before, self._after)

    def remove(self) -> None:
        """Take hooks and wrapper away."""
        for handle in self.handles:
            handle.remove()
        if self.objects.unet is self.ours:
            self.objects.unet = self.before_us
        # Other extensions may have cloned the patcher with the wrapper on (ControlNet does before a hires pass).
        for patcher in (self.ours, self.objects.unet, self.model.patcher):
            if patcher.model_options.get("model_function_wrapper") is self.wrapper:
                del patcher.model_options["model_function_wrapper"]

    @host_api.refusing()
    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        host_api.stop_if_interrupted()
        given = bound_arguments(args, kwargs)
        self.x, self.found = None, None
        if not self.model.is_loaded():
            self.evaluator.ended("the refiner took over")
            return
        x, sigma = given["x"], given["sigma"]
        place = sampler_position(self.sampler, self.count, self._t(sigma), self.first_t or self._t(sigma))
        self.first_t = self.first_t or self._t(sigma)
        self.count += 1
        sigma = self._sigma(sigma)
        # The timestep samplers hold variance-preserving latents, which Forge brings to sigma space itself.
        self.scale = float((1.0 + sigma[0].double() ** 2).sqrt()) if self._preserving else 1.0
        self.denoiser.image_cond = _fitting(self.before_us.extra_concat_condition, given["image_cond"], x)
        moved = self.evaluator.before(x * self.scale if self._preserving else x, sigma, place)
        self._move(x, moved)
        self.x = x

    @host_api.refusing()
    def _after(self, _: nn.Module, args: tuple[Any, ...], result: Tensor | None) -> Tensor | None:
        if result is None or self.x is None or self.found is None:
            return None
        late = self.evaluator.after()
        if late is None:
            return None
        change = self._move(self.x, late)
        # The noise stays the one from before the late update: x0 = x - sigma * noise moves along with x.
        return None if self._preserving else result + change

    @host_api.refusing()
    def _answer(self, apply: Callable[..., Tensor], given: Mapping[str, Any]) -> Tensor:
        """Fused predictions for the halves that the host batches together here (0 conditional, 1 unconditional)."""
        x, halves, c = given["input"], given["cond_or_uncond"], given["c"]
        if self.x is None:
            return apply(x, given["timestep"], **c)
        batch = x.shape[0] // len(halves)
        self.denoiser.host_options = dict(c.get("transformer_options", {}))
        self._keep_control(c.get("control"), halves, batch)
        if self.found is None:
            self.found = self.evaluator.predict(x[:batch], 1 in halves)
        elif 1 in halves and self.found[1] is None:
            self.found = (self.found[0], self.evaluator.unconditional())
        cond, uncond = self.found
        return torch.cat([cond if half == 0 or uncond is None else uncond for half in halves])

    def _keep_control(self, control: Any, halves: Sequence[int], batch: int) -> None:
        if control is None:
            return
        for part, half in enumerate(halves):
            for image in range(batch):
                row = slice(part * batch + image, part * batch + image + 1)
                self.denoiser.control[image, half == 0] = {
                    name: [None if hint is None else hint[row] for hint in hints] for name, hints in control.items()
                }

    def _move(self, x: Tensor, moved: Tensor) -> Tensor:
        """Move the sampler's own latent in place, inside the inpainting mask only."""
        change = moved.to(x) / self.scale - x
        if getattr(self.cfg, "nmask", None) is not None:
            change = change * self.cfg.nmask
        x += change
        return change

    @property
    def _preserving(self) -> bool:
        return bool(getattr(self.cfg, "classic_ddim_eps_estimation", False))

    def _sigma(self, sigma: Tensor) -> Tensor:
        if not self._preserving:
            return sigma
        alphas = self.cfg.inner_model.inner_model.alphas_cumprod
        levels = ((1 - alphas) / alphas) ** 0.5
        return levels.to(sigma.device)[sigma.round().long().clip(0, len(levels) - 1)]  # type: ignore[no-any-return]

    def _t(self, sigma: Tensor) -> float:
        if self._preserving:
            return float(sigma[0])
        return float(self.model.patcher.model.predictor.timestep(sigma[:1]).float()[0])


def _fitting(first: Any, second: Any, x: Tensor) -> Tensor | None:
    """The inpainting condition, where there is one of the latent's size."""
    cond = first if first is not None else second
    if isinstance(cond, Tensor) and cond.shape[0] == x.shape[0] and cond.shape[2:] == x.shape[2:]:
        return cond
    return None


def _bytes(unet: nn.Module) -> int:
    parameter = next(unet.parameters())
    return 0 if parameter.device.type == "cpu" else parameter.element_size()
