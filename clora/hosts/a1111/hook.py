"""The hooks on an A1111 sampler's denoiser during one pass.

For the time of one evaluation the sampler's denoiser holds an `Answer` instead of its model: the host's guidance,
callbacks, masks and previews then work on the fused predictions, and no forward is wasted on a prediction that would be
thrown away. Nothing else of the host is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import host_api
from ..protocol import Evaluator, bound_arguments, denoiser_hooks, sampler_position
from .denoiser import A1111Denoiser

if TYPE_CHECKING:
    from .model import A1111Model


class _Answer(nn.Module):
    """Stands in for the denoiser's model during one evaluation."""

    def __init__(self, real: nn.Module, evaluator: Evaluator, denoiser: A1111Denoiser, batch: int) -> None:
        super().__init__()
        # In a tuple, so that the real model does not become a child of this module.
        self.kept = (real, evaluator, denoiser)
        self.batch, self.answered = batch, False

    def __getattr__(self, name: str) -> Any:
        """What the host asks its model besides (its noise levels tell where a refiner takes over)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["kept"][0], name)

    @host_api.refusing()
    def forward(self, x: Tensor, sigma: Tensor, cond: Mapping[str, Any]) -> Tensor:
        """Rows come as the host batches them: all conditional ones, then the unconditional ones, in one call or two."""
        _, evaluator, denoiser = self.kept
        if self.answered:
            return evaluator.unconditional()
        self.answered = True
        denoiser.image_cond = cond["c_concat"][0][: self.batch]
        guided = x.shape[0] > self.batch
        conditional, unconditional = evaluator.predict(x[: self.batch], guided)
        return conditional if unconditional is None else torch.cat([conditional, unconditional])


class Attached:
    """The two hooks on a sampler's denoiser during one pass."""

    def __init__(self, model: A1111Model, sampler: Any, evaluator: Evaluator, denoiser: A1111Denoiser) -> None:
        self.model, self.sampler, self.evaluator, self.denoiser = model, sampler, evaluator, denoiser
        self.cfg = sampler.model_wrap_cfg
        self.count = 0
        self.first_t = 0.0
        self.x: Tensor | None = None
        self.handles = denoiser_hooks(self.cfg, self._before, self._after)

    def remove(self) -> None:
        """Take the hooks away and give the denoiser its model back."""
        for handle in self.handles:
            handle.remove()
        self._restore()

    def _restore(self) -> None:
        if isinstance(self.cfg.model_wrap, _Answer):
            self.cfg.model_wrap = self.cfg.model_wrap.kept[0]

    @host_api.refusing()
    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        host_api.stop_if_interrupted()
        given = bound_arguments(args, kwargs)
        self.x = None
        if not self.model.is_loaded():
            self.evaluator.ended("the refiner took over")
            return
        x, sigma = given["x"], given["sigma"]
        real = self.cfg.inner_model
        self.denoiser.inner, self.denoiser.image_cond = real, given["image_cond"]
        self.denoiser.marks = _marks(given)
        t = self._t(real, sigma)
        self.first_t = self.first_t or t
        place = sampler_position(self.sampler, self.count, t, self.first_t)
        self.count += 1
        moved = self.evaluator.before(x, sigma, place)
        self._move(x, moved)
        self.x = x
        self.cfg.model_wrap = _Answer(real, self.evaluator, self.denoiser, x.shape[0])

    @host_api.refusing()
    def _after(self, _: nn.Module, args: tuple[Any, ...], result: Tensor | None) -> Tensor | None:
        answered = isinstance(self.cfg.model_wrap, _Answer) and self.cfg.model_wrap.answered
        self._restore()
        if result is None or self.x is None or not answered:
            return None
        late = self.evaluator.after()
        if late is None:
            return None
        change = self._move(self.x, late)
        # The noise stays the one from before the late update: x0 = x - sigma * noise moves along with x.
        return None if self.denoiser.timesteps else result + change

    def _move(self, x: Tensor, moved: Tensor) -> Tensor:
        """Move the sampler's own latent in place, inside the inpainting mask only."""
        change = moved.to(x) - x
        if getattr(self.cfg, "nmask", None) is not None:
            change = change * self.cfg.nmask
        x += change
        return change

    def _t(self, real: Any, sigma: Tensor) -> float:
        return float(sigma[0]) if self.denoiser.timesteps else float(real.sigma_to_t(sigma[:1])[0])


def _marks(given: Mapping[str, Any]) -> dict[bool, Tensor]:
    """The token (1, D) in front of the host's conditional and unconditional contexts; empty where there is none.

    sd-webui-controlnet puts a constant one there, by which it tells the halves of a batch apart, and takes it off
    inside the UNet. Where it is missing, it takes every row for a conditional one.
    """
    firsts = {True: given["cond"].batch[0][0].schedules[0].cond, False: given["uncond"][0][0].cond}
    tokens = {half: (c["crossattn"] if isinstance(c, Mapping) else c)[:1] for half, c in firsts.items()}
    return tokens if all(bool((token == token[0, 0]).all()) for token in tokens.values()) else {}
