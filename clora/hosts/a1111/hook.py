"""How A1111's sampler is answered.

From the first evaluation to the end of the pass the sampler's denoiser holds an `_Answer` instead of its model: the
host's guidance, callbacks, masks and previews then work on the fused predictions, and no forward is spent on a
prediction that is thrown away. Between evaluations it passes calls on to the model, and notices if another extension
has removed CLoRA's hooks. Nothing else of the host is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import host_api
from ..protocol import EvaluationHandler
from ..sampler_hook import SamplerHook
from .denoiser import A1111Denoiser
from .engine import A1111Engine


class _Answer(nn.Module):
    """Stands in for the denoiser's model, for a batch of `batch` images."""

    def __init__(self, real: nn.Module, hook: A1111SamplerHook, batch: int) -> None:
        super().__init__()
        # In a tuple, so that the real model does not become a child of this module.
        self.kept = (real, hook)
        self.batch = batch

    def __getattr__(self, name: str) -> Any:
        """Everything else that the host asks of its model (noise levels say where a refiner takes over)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["kept"][0], name)

    @host_api.refusing()
    def forward(self, x: Tensor, sigma: Tensor, cond: Mapping[str, Any]) -> Tensor:
        """Rows come as the host batches them: all conditional ones, then the unconditional ones, in one call or two."""
        real, hook = self.kept
        if hook.x is None:
            hook.check()
            return real(x, sigma, cond=cond)  # type: ignore[no-any-return]
        if hook.predicted is not None:  # the second call, for the unconditional rows
            _, unconditional = hook.predictions(x[: self.batch], True)
            assert unconditional is not None
            return unconditional
        hook.denoiser.image_cond = cond["c_concat"][0][: self.batch]
        conditional, unconditional = hook.predictions(x[: self.batch], x.shape[0] > self.batch)
        return conditional if unconditional is None else torch.cat([conditional, unconditional])


class A1111SamplerHook(SamplerHook):
    """`SamplerHook` for A1111, whose denoiser works in the sampler's own space."""

    def __init__(self, model: A1111Engine, sampler: Any, handler: EvaluationHandler, denoiser: A1111Denoiser) -> None:
        self.denoiser = denoiser
        super().__init__(model, sampler, handler)

    @property
    def on_timesteps(self) -> bool:
        """As the denoiser was made for."""
        return self.denoiser.timesteps

    def timestep(self, sigma: Tensor) -> float:
        """By the host's own table of noise levels."""
        return float(sigma[0]) if self.on_timesteps else float(self.cfg.inner_model.sigma_to_t(sigma[:1])[0])

    def prepare(self, arguments: Mapping[str, Any]) -> None:
        """The host's model wrapper (another one after a refiner), inpainting condition and ControlNet's marks."""
        self.denoiser.inner, self.denoiser.image_cond = _real(self.cfg.inner_model), arguments["image_cond"]
        self.denoiser.marks = _marks(arguments)

    def start_answering(self, x: Tensor) -> None:
        """Put an `_Answer` in the model's place."""
        self.cfg.model_wrap = _Answer(_real(self.cfg.inner_model), self, x.shape[0])

    def stop_answering(self) -> None:
        """Put the model back."""
        self.cfg.model_wrap = _real(self.cfg.model_wrap)


def _real(model: Any) -> Any:
    """The host's model, behind an `_Answer` or not."""
    return model.kept[0] if isinstance(model, _Answer) else model


def _marks(arguments: Mapping[str, Any]) -> dict[bool, Tensor]:
    """The token (1, D) in front of the host's conditional and unconditional contexts; empty where there is none.

    sd-webui-controlnet puts a constant token there, by which it tells the halves of a batch apart, and removes it
    inside the UNet. Where it is missing, ControlNet takes every row for a conditional one.
    """
    firsts = {True: arguments["cond"].batch[0][0].schedules[0].cond, False: arguments["uncond"][0][0].cond}
    tokens = {half: (c["crossattn"] if isinstance(c, Mapping) else c)[:1] for half, c in firsts.items()}
    return tokens if all(bool((token == token[0, 0]).all()) for token in tokens.values()) else {}
