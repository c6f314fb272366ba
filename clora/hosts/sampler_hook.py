"""The hooks on a sampler's denoiser during one sampling pass: what A1111 and Forge have in common.

Both hosts call `CFGDenoiser.forward(x, sigma, ...)` once per evaluation. Before it, CLoRA moves the sampler's latent
(the updates); during it, the host's model is answered with fused predictions; after it, a late update may move the
latent once more. A host's subclass says how predictions are answered and in which space its latents are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import CLoRAError
from ..lora.handles import check_hooks
from . import host_api
from .protocol import EvaluationHandler, sampler_position

Predictions = tuple[Tensor, "Tensor | None"]
"""Fused conditional and unconditional predictions (B, C, h, w); None where the host has not asked for the second."""

_ARGUMENTS = ("x", "sigma", "uncond", "cond", "cond_scale", "s_min_uncond", "image_cond")


class HostModel(Protocol):
    """What the hook asks of the model it was made for."""

    def is_loaded(self) -> bool:
        """Whether the host still has this model (a refiner replaces it in the middle of a pass)."""
        ...


class SamplerHook:
    """The state of one pass. The hooks exist from construction until `remove`.

    `x` is the sampler's own latent while CLoRA handles an evaluation, else None; `predicted` holds the predictions of
    that evaluation once the host has asked for them.
    """

    def __init__(self, model: HostModel, sampler: Any, handler: EvaluationHandler) -> None:
        self.model, self.sampler, self.handler = model, sampler, handler
        self.cfg: Any = sampler.model_wrap_cfg
        self.x: Tensor | None = None
        self.predicted: Predictions | None = None
        self.removed = False
        self._scale = 1.0
        self._evaluations, self._first_timestep = 0, 0.0
        self._handles = [
            self.cfg.register_forward_pre_hook(self._before, with_kwargs=True),
            # Called after an exception too, then without a result.
            self.cfg.register_forward_hook(self._after, always_call=True),
        ]

    # ------------------------------------------------------------------------- what the hosts do differently

    @property
    def on_timesteps(self) -> bool:
        """Whether the sampler works on timesteps (DDIM, PLMS, UniPC): "sigma" is one, its latent is z, not x0 + n."""
        raise NotImplementedError

    def timestep(self, sigma: Tensor) -> float:
        """The timestep (0..999) of an evaluation at the sampler's `sigma` (B,)."""
        raise NotImplementedError

    def model_sigma(self, sigma: Tensor) -> Tensor:
        """The noise level (B,) at which CLoRA's denoiser evaluates, from the sampler's `sigma` (B,)."""
        return sigma

    def model_scale(self, sigma: Tensor) -> float:
        """The latent of CLoRA's denoiser over the sampler's latent, at the denoiser's `sigma` (B,)."""
        return 1.0

    def prepare(self, arguments: Mapping[str, Any]) -> None:
        """Take what CLoRA's denoiser needs from the arguments of the host's call."""

    def start_answering(self, x: Tensor) -> None:
        """Answer the host's model from now on, for the latent `x` (B, C, h, w)."""

    def stop_answering(self) -> None:
        """Give the host its own model back; called by `remove`."""

    # -------------------------------------------------------------------------------------------- one pass

    def remove(self) -> None:
        """Remove the hooks; may be called more than once."""
        self.removed = True
        for handle in self._handles:
            handle.remove()
        self.x = None
        self.stop_answering()

    def check(self) -> None:
        """Raises: CLoRAError if another extension has removed the hooks of a pass that has not ended."""
        if not self.removed:
            check_hooks(self._handles)

    def predictions(self, x: Tensor, guidance: bool) -> Predictions:
        """The fused predictions at `x` (B, C, h, w), computed once per evaluation.

        `guidance` asks for the unconditional one too. Hosts may ask for the halves in two calls.
        """
        if self.predicted is None:
            self.predicted = self.handler.predict(x, guidance)
        elif guidance and self.predicted[1] is None:
            self.predicted = (self.predicted[0], self.handler.unconditional())
        return self.predicted

    @host_api.refusing()
    def _before(self, _: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.x, self.predicted = None, None
        self.check()
        host_api.stop_if_interrupted()
        if not self.model.is_loaded():
            self.handler.ended("the refiner took over")
            return
        arguments = {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
        x, sigma = arguments["x"], arguments["sigma"]
        self.prepare(arguments)
        timestep = self.timestep(sigma)
        self._first_timestep = self._first_timestep or timestep
        position = sampler_position(self.sampler, self._evaluations, timestep, self._first_timestep)
        self._evaluations += 1
        level = self.model_sigma(sigma)
        self._scale = self.model_scale(level)
        self._move(x, self.handler.before(x if self._scale == 1.0 else x * self._scale, level, position))
        self.x = x
        self.start_answering(x)

    @host_api.refusing()
    def _after(self, _: nn.Module, args: Sequence[Any], result: Tensor | None) -> Tensor | None:
        x, self.x = self.x, None
        if result is None:  # the evaluation failed or was interrupted, and the sampler ends with it
            self._end()
            return None
        if not self.model.is_loaded():  # replaced inside this evaluation, which may be the last
            self.handler.ended("the refiner took over")
        try:
            return None if x is None else self._finished(x, result)
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self.remove()
        self.handler.failed()

    def _finished(self, x: Tensor, result: Tensor) -> Tensor | None:
        """The result of an evaluation at `x` after the late update, None if there is none. Raises: CLoRAError."""
        self.check()
        if not bool(torch.isfinite(result).all()):
            raise CLoRAError(
                f"The prediction holds NaN or infinite values at evaluation {self._evaluations}: use full precision "
                "(--no-half), smaller weights of the LoRAs, or a smaller update strength."
            )
        late = None if self.predicted is None else self.handler.after()
        if late is None:
            return None
        change = self._move(x, late)
        # The noise stays the one from before the late update: x0 = x - sigma * noise moves along with x.
        return None if self.on_timesteps else result + change

    def _move(self, x: Tensor, moved: Tensor) -> Tensor:
        """Move the sampler's own latent `x` to `moved`, in place and inside the inpainting mask only."""
        change = moved.to(x) / self._scale - x
        if getattr(self.cfg, "nmask", None) is not None:
            change = change * self.cfg.nmask
        x += change
        return change
