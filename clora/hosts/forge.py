"""Forge's model and sampler: a wrapper round the UNet answers the host's evaluations with fused predictions.

Forge samples in inference mode, where every parameter is a tensor that autograd refuses. For the latent update the
parameters are aliased: a normal tensor is set on each one's memory, nothing is copied, and the UNet is called with the
aliases. The model function wrapper is set on a clone of the UNet's patcher and taken off when the pass ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from modules import shared
from torch import Tensor, nn

from ..denoiser import Row
from ..errors import CLoRAError
from ..lora.rows import RowLoras
from ..prompt import PromptTokens, ResolvedText
from . import front
from .webui import Encoded, Evaluation, Evaluator, bound_arguments, frozen, host_layout, place_of

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_COMMA_BACKTRACK = 20  # fixed in Forge
_BYTES_PER_CELL = 75_000  # activations that an update keeps per latent cell, row and byte of the dtype, measured


class ForgeModel:
    """`clora.hosts.webui.WebUIModel` for Forge's SD 1.5, SD 2.x and SDXL engines."""

    def __init__(self, sd_model: Any) -> None:
        self.sd_model = sd_model
        names = ("text_processing_engine_l", "text_processing_engine_g")
        engines = [getattr(sd_model, name) for name in names if hasattr(sd_model, name)]
        self._engines = engines or [getattr(sd_model, "text_processing_engine", None)]
        self.sdxl = bool(engines)

    @property
    def patcher(self) -> Any:
        """The UNet's patcher, as it is now."""
        return self.sd_model.forge_objects.unet

    @property
    def unet(self) -> nn.Module:
        """The UNet whose layers LoRAs and taps are put on."""
        unet: nn.Module = self.patcher.model.diffusion_model
        return unet

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """Forge's CLIP text models."""
        engines = zip(("text_encoder", "text_encoder_2"), self._engines, strict=False)
        return {name: engine.text_encoder for name, engine in engines}

    def check(self, settings: Any) -> None:
        """Errors: CLoRAError for models and states that CLoRA cannot compose with."""
        if not hasattr(self._engines[0], "tokenize_line") or not hasattr(self.unet, "input_blocks"):
            raise CLoRAError(
                f"CLoRA cannot compose with this model ({type(self.sd_model).__name__}): "
                "choose an SD 1.5, SD 2.x or SDXL checkpoint."
            )
        if "model_function_wrapper" in self.patcher.model_options:
            raise CLoRAError(
                "Another extension has wrapped the UNet (tiled diffusion, for instance): turn it off for this picture."
            )
        if settings.updates and any(p.dtype not in _FLOATS or type(p) not in _PLAIN for p in self.unet.parameters()):
            raise CLoRAError(
                "Gradients cannot pass through this UNet's compressed weights (fp8, nf4 or gguf): set Diffusion in Low "
                "Bits to Automatic or fp16, or set Update until to 0 to compose by masks alone."
            )

    def layout(self, text: ResolvedText) -> PromptTokens:
        """Chunks and positions as the host's tokenizer has them."""
        engine: Any = self._engines[0]
        return host_layout(engine, text, engine.embeddings, _COMMA_BACKTRACK)

    def encode(self, texts: Sequence[str], *, negative: bool, width: int, height: int) -> list[Encoded]:
        """The texts in one batch, row i text i."""
        return front.encode(self.sd_model, texts, negative=negative, width=width, height=height)

    def denoiser(self, loras: RowLoras, host_denoiser: Any) -> ForgeDenoiser:
        """The rows' denoiser for one sampling pass."""
        return ForgeDenoiser(self, loras)

    def is_loaded(self) -> bool:
        """Whether the host still has this model (a refiner replaces it in the middle of a pass)."""
        return shared.sd_model is self.sd_model

    def attach(self, processing: Any, evaluator: Evaluator, denoiser: ForgeDenoiser) -> Callable[[], None]:
        """Let the evaluator answer the host's evaluations of this pass; returns what takes every trace away."""
        return _Attached(self, processing, evaluator, denoiser).remove


_PLAIN = (nn.Parameter, Tensor)


class ForgeDenoiser:
    """`clora.denoiser.Denoiser` for Forge at one evaluation; predictions are x0, latents in sigma space."""

    def __init__(self, model: ForgeModel, loras: RowLoras) -> None:
        self.model, self.loras = model, loras
        self.now: Evaluation | None = None
        self.image_cond: Tensor | None = None
        self.host_options: dict[str, Any] = {}
        self.control: dict[tuple[int, bool], dict[str, list[Any]]] = {}
        self._aliases: dict[str, Tensor] | None = None

    def at(self, evaluation: Evaluation) -> None:
        """Evaluate here from now on; control of the last evaluation is forgotten."""
        self.now, self.control, self.host_options = evaluation, {}, {}

    @property
    def latent_scale(self) -> float:
        """sqrt(1 + sigma^2)."""
        assert self.now is not None
        return float((1.0 + self.now.sigma[0].double() ** 2).sqrt())

    def predict(self, latent: Tensor, rows: tuple[Row, ...]) -> Tensor:
        """x0 (R, C, h, w) for rows. ControlNets act in predictions, not in the forwards of an update."""
        assert self.now is not None
        encoded = [self.now.contexts[row] for row in rows]
        images = torch.tensor([row.image for row in rows], device=latent.device)
        graded = self._aliases is not None
        given: dict[str, Any] = {
            "c_crossattn": torch.stack([one.context for one in encoded]).to(latent.device),
            "transformer_options": {} if graded else self._options(rows),
        }
        if self.model.sdxl:
            given["y"] = torch.stack([one.vector for one in encoded if one.vector is not None]).to(latent.device)
        if self.image_cond is not None:
            given["c_concat"] = self.image_cond[images]
        if self.control and not graded:
            given["control"] = self._control(rows)
        kmodel = self.model.patcher.model
        with self.loras.rows([self.now.set_of[row.image, row.variant] for row in rows]):
            arguments = (latent, self.now.sigma[images])
            if self._aliases is None:
                result: Tensor = kmodel.apply_model(*arguments, **given)
            else:
                result = torch.func.functional_call(_Applied(kmodel), self._aliases, arguments, given)
        return result.to(latent.dtype)

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
        either = next(iter(self.control.values()))

        def of(row: Row) -> dict[str, list[Any]]:
            same = (row.image, row.conditional)
            return self.control.get(same) or self.control.get((row.image, not row.conditional)) or either

        return {
            name: [
                None if hint is None else torch.cat([of(row)[name][place] for row in rows])
                for place, hint in enumerate(hints)
            ]
            for name, hints in either.items()
        }

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Out of inference mode, with normal tensors for all parameters and inputs."""
        unet = self.model.unet
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            self._aliases = {f"kmodel.diffusion_model.{n}": _alias(t) for n, t in _tensors(unet) if t.is_inference()}
            stack.callback(setattr, self, "_aliases", None)
            stack.enter_context(_cloned_norm_inputs(unet))
            stack.enter_context(frozen(unet))
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
    """The transformer blocks add to x in place after a norm has read it: autograd needs the norm's own copy."""

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


class _Attached:
    """Hooks on the sampler's denoiser and a wrapper on the UNet's patcher during one pass."""

    def __init__(self, model: ForgeModel, p: Any, evaluator: Evaluator, denoiser: ForgeDenoiser) -> None:
        self.model, self.sampler, self.evaluator, self.denoiser = model, p.sampler, evaluator, denoiser
        self.cfg = p.sampler.model_wrap_cfg
        self.count, self.first_t = 0, 0.0
        self.x: Tensor | None = None
        self.scale = 1.0
        self.found: tuple[Tensor, Tensor | None] | None = None
        self.objects = model.sd_model.forge_objects
        self.before_us = self.objects.unet
        self.ours = self.before_us.clone()
        self.ours.model_options["model_function_wrapper"] = lambda apply, given: self._answer(apply, given)
        rows = len({row for row in evaluator.rows if row.conditional})
        cells = p.width * p.height // 64
        self.ours.add_extra_preserved_memory_during_sampling(_BYTES_PER_CELL * cells * rows * _bytes(model.unet))
        self.objects.unet = self.ours
        self.handles = [
            self.cfg.register_forward_pre_hook(self._before, with_kwargs=True),
            self.cfg.register_forward_hook(self._after, always_call=True),
        ]

    def remove(self) -> None:
        """Take hooks and wrapper away."""
        for handle in self.handles:
            handle.remove()
        self.ours.model_options.pop("model_function_wrapper", None)
        if self.objects.unet is self.ours:
            self.objects.unet = self.before_us

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        front.stop_if_interrupted()
        given = bound_arguments(args, kwargs)
        self.x, self.found = None, None
        if not self.model.is_loaded():
            self.evaluator.ended("the refiner took over")
            return
        x, sigma = given["x"], given["sigma"]
        place = place_of(self.sampler, self.count, self._t(sigma), self.first_t or self._t(sigma))
        self.first_t = self.first_t or self._t(sigma)
        self.count += 1
        sigma = self._sigma(sigma)
        # The timestep samplers hold variance-preserving latents, which Forge brings to sigma space itself.
        self.scale = float((1.0 + sigma[0].double() ** 2).sqrt()) if self._preserving else 1.0
        self.denoiser.image_cond = _fitting(self.before_us.extra_concat_condition, given["image_cond"], x)
        moved = self.evaluator.before(x * self.scale if self._preserving else x, sigma, place)
        self._move(x, moved)
        self.x = x

    def _after(self, _: nn.Module, args: tuple[Any, ...], result: Tensor | None) -> Tensor | None:
        if result is None or self.x is None or self.found is None:
            return None
        late = self.evaluator.after()
        if late is None:
            return None
        change = self._move(self.x, late)
        # The noise stays the one from before the late update: x0 = x - sigma * noise moves along with x.
        return None if self._preserving else result + change

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
