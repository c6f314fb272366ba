"""Four samplers: one evaluation a step (Euler), two (Heun), as many as it wants (adaptive), on timesteps (DDIM)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from modules import devices, shared, tiny_a1111, tiny_forge
from modules.sd_samplers_common import InterruptedException
from modules.tiny_network import alphas


@dataclass(frozen=True)
class SamplerConfig:
    """A sampler of the list."""

    name: str
    funcname: str
    options: dict[str, Any] = field(default_factory=dict)

    def total_steps(self, steps: int) -> int:
        """Evaluations that prompt schedules count on."""
        return steps * 2 if self.options.get("second_order") else steps


all_samplers = (
    SamplerConfig("Euler", "sample_euler"),
    SamplerConfig("Heun", "sample_heun", {"second_order": True}),
    SamplerConfig("DPM adaptive", "sample_dpm_adaptive"),
    SamplerConfig("DDIM", "ddim", {"timesteps": True}),
)


def find_sampler_config(name: str | None) -> SamplerConfig | None:
    """A sampler by its name."""
    return next((config for config in all_samplers if config.name == name), None)


class Sampler:
    """One pass; `watch` sees x before each evaluation."""

    def __init__(self, config: SamplerConfig) -> None:
        self.config, self.funcname = config, config.funcname
        self.timesteps = bool(config.options.get("timesteps"))
        host = tiny_forge if hasattr(shared.sd_model, "forge_objects") else tiny_a1111
        self.model_wrap_cfg = host.denoiser(self, self.timesteps)
        self.last_latent: Any = None
        self.watch: Callable[[int, Tensor], None] = lambda number, x: None
        self._evaluations = 0

    def sample(self, p: Any, noise: Tensor, conds: Any, steps: int, init: Tensor | None = None) -> Tensor:
        """From noise, or from a noised latent for the last steps only."""
        ladder = self._timesteps(steps) if self.timesteps else self._sigmas(steps)
        levels = alphas()
        if init is None:
            x = noise if self.timesteps else noise * ladder[0]
        else:
            count = int(min(p.denoising_strength, 0.999) * steps)
            ladder = ladder[max(0, len(ladder) - count - 2) :]
            steps = count + 1
            if self.timesteps:
                a = levels[int(ladder[0])]
                x = a.sqrt() * init + (1 - a).sqrt() * noise
            else:
                x = init + noise * ladder[0]
        cfg = self.model_wrap_cfg
        if p.mask is not None:
            cfg.mask, cfg.nmask, cfg.init_latent = 1 - p.mask, p.mask, init
        cfg.steps, cfg.total_steps = steps, self.config.total_steps(steps)
        self.last_latent = x
        cond, uncond = conds
        extra = {
            "cond": cond, "uncond": uncond, "cond_scale": p.cfg_scale, "s_min_uncond": p.s_min_uncond,
            "image_cond": x.new_zeros(len(x), 5, 1, 1),
        }  # fmt: skip

        def model(x: Tensor, sigma: Tensor) -> Tensor:
            self.watch(self._evaluations, x)
            shared.state.sampling_step = max(self._evaluations - 1, 0)  # it lags in the hosts too
            self._evaluations += 1
            return cfg(x, sigma * x.new_ones(len(x)), **extra)

        try:
            return _SAMPLERS[self.config.name](model, x, ladder)
        except InterruptedException:
            return self.last_latent

    @staticmethod
    def _sigmas(steps: int) -> Tensor:
        sigmas = ((1 - alphas()) / alphas()).sqrt()
        t = torch.linspace(999, 0, steps, dtype=sigmas.dtype, device=sigmas.device)
        low = t.long().clamp(max=998)
        between = sigmas.log()[low].lerp(sigmas.log()[low + 1], t - low).exp()
        return torch.cat([between, sigmas.new_zeros(1)])

    @staticmethod
    def _timesteps(steps: int) -> Tensor:
        """From high to low; the last one is never evaluated, so there is one evaluation fewer than steps."""
        return (torch.arange(0, 1000, 1000 // steps, device=devices.device) + 1).clamp(0, 999).flip(0)


def create_sampler(name: str) -> Sampler:
    """A new sampler."""
    config = find_sampler_config(name)
    assert config is not None
    return Sampler(config)


Model = Callable[[Tensor, Tensor], Tensor]


def _euler(model: Model, x: Tensor, sigmas: Tensor) -> Tensor:
    for now, after in pairwise(sigmas):
        x = x + (x - model(x, now)) / now * (after - now)
    return x


def _heun(model: Model, x: Tensor, sigmas: Tensor) -> Tensor:
    for now, after in pairwise(sigmas):
        slope = (x - model(x, now)) / now
        there = x + slope * (after - now)
        if after > 0:
            slope = (slope + (there - model(there, after)) / after) / 2
        x = x + slope * (after - now)
    return x


def _ddim(model: Model, x: Tensor, timesteps: Tensor) -> Tensor:
    for now, after in pairwise(timesteps):
        a, b = alphas()[now], alphas()[after]
        noise = model(x, now)
        x = b.sqrt() * (x - (1 - a).sqrt() * noise) / a.sqrt() + (1 - b).sqrt() * noise
    return x


def _adaptive(model: Model, x: Tensor, sigmas: Tensor) -> Tensor:
    """Steps in log(sigma) as long as the slopes at their two ends agree; one that is too long is taken back."""
    at, last, step = float(sigmas[0].log()), float(sigmas[-2].log()), 1.0
    while at > last + 1e-5:
        step = min(step, at - last)
        now, after = (x.new_tensor(level).exp() for level in (at, at - step))
        slope = (x - model(x, now)) / now
        there = x + slope * (after - now)
        other = (there - model(there, after)) / after
        error = float(((other - slope) * (after - now)).pow(2).mean().sqrt() / x.pow(2).mean().sqrt())
        if error < 0.1 or step < 0.1:
            x, at = x + (slope + other) / 2 * (after - now), at - step
        step *= min(2.0, max(0.3, 0.9 * (0.1 / max(error, 1e-9)) ** 0.5))
    return model(x, x.new_tensor(last).exp())


_SAMPLERS: dict[str, Callable[[Model, Tensor, Tensor], Tensor]] = {
    "Euler": _euler, "Heun": _heun, "DPM adaptive": _adaptive, "DDIM": _ddim,
}  # fmt: skip
