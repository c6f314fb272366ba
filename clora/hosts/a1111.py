"""AUTOMATIC1111's model and sampler: rows through its own denoiser, fused predictions in its place.

For the time of one evaluation the sampler's denoiser holds an `Answer` instead of its model: the host's guidance,
callbacks, masks and previews then work on the fused predictions, and no forward is wasted on a prediction that would be
thrown away. Nothing else of the host is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from modules import lowvram, sd_hijack, sd_unet, shared
from torch import Tensor, nn

from ..denoiser import Conditioned, Row
from ..errors import CLoRAError
from ..lora.rows import RowLoras
from ..prompt import PromptTokens, ResolvedText
from . import front
from .webui import Encoded, Evaluation, Evaluator, bound_arguments, denoiser_hooks, frozen, host_layout, place_of


class A1111Model:
    """`clora.hosts.webui.WebUIModel` for A1111's SD 1.5, SD 2.x and SDXL models."""

    def __init__(self, sd_model: Any) -> None:
        self.sd_model = sd_model
        embedders = [
            e for e in getattr(getattr(sd_model, "conditioner", None), "embedders", ()) if hasattr(e, "tokenize_line")
        ]
        self._engines = embedders or [sd_model.cond_stage_model]
        self.sdxl = bool(embedders)

    @property
    def unet(self) -> nn.Module:
        """The UNet whose layers LoRAs and taps are put on."""
        unet: nn.Module = self.sd_model.model.diffusion_model
        return unet

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """The encoders that the host's own wrappers hold."""
        return {
            name: engine.wrapped
            for name, engine in zip(("text_encoder", "text_encoder_2"), self._engines, strict=False)
        }

    @property
    def pads_prompts(self) -> bool:
        """The WebUI's option "Pad prompt/negative prompt"."""
        return bool(front.option("pad_cond_uncond", False))

    def check(self, settings: Any) -> None:
        """Errors: CLoRAError for models and states that CLoRA cannot compose with."""
        if getattr(self.sd_model, "cond_stage_key", "") == "edit":
            raise CLoRAError("CLoRA cannot compose with an InstructPix2Pix model: choose a text-to-image checkpoint.")
        if getattr(self.sd_model.model, "conditioning_key", "") == "crossattn-adm":
            raise CLoRAError("CLoRA cannot compose with an unCLIP model: choose a text-to-image checkpoint.")
        if not hasattr(self._engines[0], "wrapped"):
            raise CLoRAError("CLoRA cannot compose with this model: choose an SD 1.5, SD 2.x or SDXL checkpoint.")
        if sd_unet.current_unet is not None:
            raise CLoRAError(
                "A replaced UNet (TensorRT, for instance) is on: set SD Unet to None in the WebUI's settings."
            )
        if shared.cmd_opts.lowvram and lowvram.is_enabled(self.sd_model) and settings.updates:
            raise CLoRAError(
                "The latent update cannot run with --lowvram: start with --medvram, or set Update until to 0."
            )

    def layout(self, text: ResolvedText) -> PromptTokens:
        """Chunks and positions as the host's tokenizer has them."""
        engine, database = self._engines[0], sd_hijack.model_hijack.embedding_db
        return host_layout(engine, text, database, front.option("comma_padding_backtrack", 20))

    def encode(self, texts: Sequence[str], *, negative: bool, width: int, height: int) -> list[Encoded]:
        """The texts in one batch, row i text i."""
        return front.encode(self.sd_model, texts, negative=negative, width=width, height=height)

    def denoiser(self, loras: RowLoras, host_denoiser: Any) -> A1111Denoiser:
        """The rows' denoiser for one sampling pass."""
        return A1111Denoiser(self, loras, timesteps=hasattr(host_denoiser, "alphas"))

    def is_loaded(self) -> bool:
        """Whether the host still has this model (a refiner replaces it in the middle of a pass)."""
        return shared.sd_model is self.sd_model

    def attach(self, processing: Any, evaluator: Evaluator, denoiser: A1111Denoiser) -> Callable[[], None]:
        """Let the evaluator answer the host's evaluations of this pass; returns what takes every trace away."""
        return _Attached(self, processing.sampler, evaluator, denoiser).remove


class A1111Denoiser:
    """`clora.denoiser.Denoiser` for A1111 at one evaluation; `inner` is the host's own model wrapper."""

    def __init__(self, model: A1111Model, loras: RowLoras, *, timesteps: bool) -> None:
        self.model, self.loras, self.timesteps = model, loras, timesteps
        self.inner: Callable[..., Tensor] | None = None
        self.image_cond: Tensor | None = None
        self.now: Evaluation | None = None
        self.marks: dict[bool, Tensor] = {}

    def at(self, evaluation: Evaluation) -> None:
        """Evaluate here from now on."""
        self.now = evaluation

    @property
    def latent_scale(self) -> float:
        """1 for the variance-preserving latents of DDIM and PLMS, sqrt(1 + sigma^2) for k-diffusion's."""
        assert self.now is not None
        return 1.0 if self.timesteps else float((1.0 + self.now.sigma[0].double() ** 2).sqrt())

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        """The host's prediction for rows: x0 for k-diffusion samplers, the noise for timestep samplers."""
        assert self.now is not None
        assert self.inner is not None
        assert self.image_cond is not None
        images = torch.tensor([row.image for row in rows], device=latent.device)
        own = self.conditioning(rows)
        context = own.contexts
        if self.marks:
            context = torch.cat(
                [torch.stack([self.marks[row.conditional].to(context) for row in rows]), context], dim=1
            )
        # A fresh dict each time: the host rewrites its entries.
        cond: dict[str, Any] = {"c_concat": [self.image_cond[images]]}
        if self.model.sdxl:
            cond |= {"crossattn": context, "vector": own.vectors if vectors is None else vectors}
        else:
            cond["c_crossattn"] = [context]
        with self.loras.rows(own.sets):
            return self.inner(latent, self.now.sigma[images], cond=cond).to(latent.dtype)

    def conditioning(self, rows: tuple[Row, ...]) -> Conditioned:
        """The rows' contexts, LoRA sets and pooled texts."""
        assert self.now is not None
        return self.now.conditioning(rows)

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Gradients with respect to the latent only."""
        with frozen(self.model.unet), torch.enable_grad():
            yield


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

    @front.refusing()
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


class _Attached:
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

    @front.refusing()
    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        front.stop_if_interrupted()
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
        place = place_of(self.sampler, self.count, t, self.first_t)
        self.count += 1
        moved = self.evaluator.before(x, sigma, place)
        self._move(x, moved)
        self.x = x
        self.cfg.model_wrap = _Answer(real, self.evaluator, self.denoiser, x.shape[0])

    @front.refusing()
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
