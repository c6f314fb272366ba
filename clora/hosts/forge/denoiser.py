"""Rows through Forge's UNet, and gradients where Forge samples in inference mode.

There every parameter is an inference tensor, which autograd refuses. For the latent update the parameters are aliased:
a normal tensor is made on the memory of each, nothing is copied, and the UNet is called with the aliases.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...lora.rows import RowLoras
from ...models import family_of
from ...models.denoiser import Conditioned, Row
from ..protocol import Evaluation, frozen
from .attention import pytorch_attention
from .engine import ForgeEngine


class ForgeDenoiser:
    """`clora.models.denoiser.Denoiser` for Forge at one evaluation; predictions are x0, latents in sigma space."""

    def __init__(self, model: ForgeEngine, loras: RowLoras) -> None:
        self.model, self.loras = model, loras
        self.family = family_of(model.unet)
        self.now: Evaluation | None = None
        self.image_cond: Tensor | None = None
        self.host_options: dict[str, Any] = {}
        self.control: dict[tuple[int, bool], dict[str, list[Any]]] = {}
        self._aliases: dict[str, Tensor] | None = None

    def at(self, evaluation: Evaluation) -> None:
        """Evaluate here from now on; ControlNet's hints of the last evaluation are dropped."""
        self.now, self.control, self.host_options = evaluation, {}, {}

    @property
    def latent_scale(self) -> float:
        """The family's scale, since Forge's model takes k-diffusion's latents whatever the sampler holds."""
        assert self.now is not None
        return self.family.latent_scale(float(self.now.sigma[0]))

    @property
    def complete(self) -> bool:
        """Whether no ControlNet is on: the host computes its hints after CLoRA's turn before a step."""
        return getattr(self.model.patcher, "controlnet_linked_list", None) is None

    @property
    def signal(self) -> float:
        """From the noise level, x = z / sqrt(signal)."""
        return 1.0 / self.latent_scale**2

    def denoised(self, latent: Tensor, signal: float, rows: tuple[Row, ...]) -> Tensor:
        """The host's own x0 at another noise level."""
        assert self.now is not None
        level = torch.full_like(self.now.sigma, ((1.0 - signal) / signal) ** 0.5)
        return self._evaluated(latent / signal**0.5, level, rows, None)

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        """x0 (R, C, h, w) for rows. ControlNets act in predictions, not in the forwards of an update."""
        assert self.now is not None
        return self._evaluated(latent, self.now.sigma, rows, vectors)

    def _evaluated(self, latent: Tensor, level: Tensor, rows: tuple[Row, ...], vectors: Tensor | None) -> Tensor:
        """The host's x0 at the noise `level` (B,) of each image."""
        own = self.conditioning(rows)
        images = torch.tensor([row.image for row in rows], device=latent.device)
        with_gradients = self._aliases is not None
        given: dict[str, Any] = {
            "c_crossattn": own.contexts.to(latent.device),
            "transformer_options": {} if with_gradients else self._options(rows),
        }
        pooled = own.vectors if vectors is None else vectors
        if pooled is not None:
            given["y"] = pooled.to(latent.device)
        if self.image_cond is not None:
            given["c_concat"] = self.image_cond[images]
        if self.control and not with_gradients:
            given["control"] = self._control(rows)
        with self.loras.rows(own.sets), self.model.uncompiled() as kmodel:
            arguments = (latent, level[images])
            if self._aliases is None:
                result: Tensor = kmodel.apply_model(*arguments, **given)
            else:
                result = torch.func.functional_call(_Applied(kmodel), self._aliases, arguments, given)
        return result.to(latent.dtype)

    def conditioning(self, rows: tuple[Row, ...]) -> Conditioned:
        """The rows' contexts, LoRA sets and pooled vectors."""
        assert self.now is not None
        return self.now.conditioning.conditioned(rows)

    def _options(self, rows: tuple[Row, ...]) -> dict[str, Any]:
        """The host's transformer options with the marks of these rows: other extensions' patches read them."""
        assert self.now is not None
        marks = [0 if row.conditional else 1 for row in rows]
        return {
            **self.host_options,
            "cond_or_uncond": marks[:: len(self.now.sigma)],
            "sigmas": self.now.sigma,
            "cond_mark": torch.tensor(marks).to(self.now.sigma),
            "cond_indices": [i for i, mark in enumerate(marks) if mark == 0],
            "uncond_indices": [i for i, mark in enumerate(marks) if mark == 1],
        }

    def _control(self, rows: tuple[Row, ...]) -> dict[str, list[Any]]:
        """ControlNet's hints of each row's image and half, in fresh lists: the UNet empties them."""
        fallback = next(iter(self.control.values()))

        def of(row: Row) -> dict[str, list[Any]]:
            own, other = (row.image, row.conditional), (row.image, not row.conditional)
            return self.control.get(own) or self.control.get(other) or fallback

        return {
            name: [
                None if hint is None else torch.cat([of(row)[name][index] for row in rows])
                for index, hint in enumerate(hints)
            ]
            for name, hints in fallback.items()
        }

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Outside inference mode, with normal tensors for all parameters and inputs."""
        unet = self.model.unet
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            self._aliases = {f"kmodel.diffusion_model.{n}": _alias(t) for n, t in _tensors(unet) if t.is_inference()}
            stack.callback(setattr, self, "_aliases", None)
            stack.enter_context(_cloned_norm_inputs(unet))
            stack.enter_context(frozen(unet))
            stack.enter_context(pytorch_attention())
            stack.enter_context(torch.enable_grad())
            yield


class _Applied(nn.Module):
    """`apply_model` as a forward, which `functional_call` needs."""

    def __init__(self, kmodel: nn.Module) -> None:
        super().__init__()
        self.kmodel = kmodel

    def forward(self, x: Tensor, sigma: Tensor, **given: Any) -> Tensor:
        """x0 of the model."""
        result: Tensor = self.kmodel.apply_model(x, sigma.clone(), **given)  # type: ignore[operator]
        return result


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _alias(tensor: Tensor) -> Tensor:
    """A normal tensor on the memory of an inference tensor."""
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return empty.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())  # type: ignore[call-overload,no-any-return]


@contextmanager
def _cloned_norm_inputs(unet: nn.Module) -> Iterator[None]:
    """Give every norm a copy of its input for autograd: the transformer blocks add to x in place afterwards."""

    def clone(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0].clone(), *args[1:])

    blocks = [module for module in unet.modules() if hasattr(module, "attn2") and hasattr(module, "norm3")]
    handles = []
    try:
        for block in blocks:
            for name in ("norm1", "norm2", "norm3"):
                handles.append(getattr(block, name).register_forward_pre_hook(clone))
        yield
    finally:
        for handle in handles:
            handle.remove()
