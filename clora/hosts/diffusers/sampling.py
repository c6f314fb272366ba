"""Runs a diffusers scheduler with a batch's conditioning: denoiser, sampling loop, decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...conditioning.batch import BatchConditioning, StepConditioning
from ...engine.composer import Composer, Observer, Step
from ...errors import CLoRAError, shown
from ...guidance.classifier_free import guide
from ...lora.rows import RowLoras
from ...models import family_of
from ...models.denoiser import Conditioned, Row
from ...models.memory import DECODING, memory_errors_told
from ...settings import Settings
from ..protocol import frozen
from .devices import compute_device
from .text import added_conditions

MAX_SIDE = 8192
"""Pixels; no model draws larger pictures, and their attention fits no memory."""


@dataclass(frozen=True)
class Sampling:
    """Everything a run needs beside prompt and LoRAs. Sizes in pixels; `guidance` 1 turns guidance off."""

    steps: int = 30
    guidance: float = 7.5
    guidance_rescale: float = 0.0
    width: int = 0
    height: int = 0

    def checked(self, pipe: Any) -> Sampling:
        """With the model's own size where none is given. Raises: CLoRAError for a value that cannot be used."""
        factor = family_of(pipe.unet).spatial_factor
        default = int(pipe.unet.config.sample_size) * int(pipe.vae_scale_factor)
        width, height = self.width or default, self.height or default
        for name, value in (("width", width), ("height", height)):
            if value > MAX_SIDE:
                raise CLoRAError(f"The {name} {shown(value)} is too large: use at most {MAX_SIDE}.")
            if value <= 0 or value % factor:
                nearest = max(factor, round(value / factor) * factor)
                raise CLoRAError(f"The {name} {value} is not divisible by {factor}: use {nearest}.")
        most = int(getattr(pipe.scheduler.config, "num_train_timesteps", 1000))
        if not 1 <= self.steps <= most:
            raise CLoRAError(f"The number of steps is {shown(self.steps)}: use a number from 1 to {most}.")
        if not 0.0 <= self.guidance <= 100.0:
            raise CLoRAError(f"The guidance scale is {self.guidance:g}: use a number from 0 to 100.")
        if not 0.0 <= self.guidance_rescale <= 1.0:
            raise CLoRAError(f"The guidance rescale is {self.guidance_rescale:g}: use a number from 0 to 1.")
        return Sampling(self.steps, self.guidance, self.guidance_rescale, width, height)


def check_pipeline(pipe: Any) -> None:
    """Raises: CLoRAError for pipelines that are not SD 1.5, SD 2.x or SDXL text-to-image models."""
    kind = type(pipe).__name__
    if getattr(pipe, "unet", None) is None or getattr(pipe, "text_encoder", None) is None:
        raise CLoRAError(f"CLoRA cannot compose with a {kind}: load an SD 1.5, SD 2.x or SDXL text-to-image pipeline.")
    channels = pipe.unet.config.in_channels
    if channels != 4:
        raise CLoRAError(
            f"The model's UNet takes {channels} channels instead of 4 (an inpainting or editing model): "
            "load the text-to-image checkpoint."
        )


class DiffusersDenoiser:
    """`clora.models.denoiser.Denoiser` for a pipeline's UNet at one timestep."""

    def __init__(self, pipe: Any, loras: RowLoras, conditioning: BatchConditioning, sampling: Sampling) -> None:
        self.pipe, self.loras, self.sampling = pipe, loras, sampling
        self.batch = conditioning
        self.device = compute_device(pipe.unet)
        self.timestep: Any = None
        self.now: StepConditioning = conditioning.at(0)

    def at(self, step: int, timestep: Any) -> DiffusersDenoiser:
        """This denoiser moved to a sampler step (0-based) and its timestep."""
        self.now, self.timestep = self.batch.at(step), timestep
        return self

    @property
    def latent_scale(self) -> float:
        """s of x = s z, read from what the scheduler does to the latent before the model gets it."""
        return 1.0 / float(self.pipe.scheduler.scale_model_input(torch.ones(()), self.timestep))

    complete = True

    @property
    def signal(self) -> float:
        """By the scheduler's table."""
        return float(self.pipe.scheduler.alphas_cumprod[int(self.timestep)])

    def denoised(self, latent: Tensor, signal: float, rows: tuple[Row, ...]) -> Tensor:
        """At the timestep of the scheduler's table with the nearest signal level."""
        config, table = self.pipe.scheduler.config, self.pipe.scheduler.alphas_cumprod.to("cpu", torch.float32)
        timestep = int((table - signal).abs().argmin())
        output = self._output(latent, timestep, rows, None)
        kept, noise = signal**0.5, (1.0 - signal) ** 0.5
        if config.prediction_type == "sample":
            return output
        velocity = config.prediction_type == "v_prediction"
        x0: Tensor = kept * latent - noise * output if velocity else (latent - noise * output) / kept
        return x0

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        """The UNet's prediction (R, C, h, w), in the latent's dtype."""
        scaled = self.pipe.scheduler.scale_model_input(latent, self.timestep)
        return self._output(scaled, self.timestep, rows, vectors).to(latent.dtype)

    def _output(self, scaled: Tensor, timestep: Any, rows: tuple[Row, ...], vectors: Tensor | None) -> Tensor:
        """The UNet's output for variance-preserving latents."""
        unet = self.pipe.unet
        given = self.conditioning(rows)
        added = added_conditions(
            given.vectors if vectors is None else vectors, self.sampling.height, self.sampling.width
        )
        with self.loras.rows(given.sets):
            output: Tensor = unet(
                scaled.to(unet.dtype), timestep, encoder_hidden_states=given.contexts,
                added_cond_kwargs=added or None, return_dict=False,
            )[0]  # fmt: skip
        return output.to(scaled.dtype)

    def conditioning(self, rows: tuple[Row, ...]) -> Conditioned:
        """The rows' contexts, LoRA sets and pooled vectors."""
        found = self.now.conditioned(rows)
        # The text encoders may be on another device than the UNet.
        vectors = None if found.vectors is None else found.vectors.to(self.device)
        return replace(found, contexts=found.contexts.to(self.device, self.pipe.unet.dtype), vectors=vectors)

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Gradients with respect to the latent only: the UNet's parameters are frozen inside."""
        with frozen(self.pipe.unet), torch.enable_grad():
            yield


def initial_latents(pipe: Any, sampling: Sampling, seeds: Sequence[int]) -> Tensor:
    """Noise (B, C, h, w), one seed for each image, drawn on the CPU so that a seed gives one picture everywhere."""
    factor = family_of(pipe.unet).spatial_factor
    size = (1, pipe.unet.config.in_channels, sampling.height // factor, sampling.width // factor)
    noise = [torch.randn(size, generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]
    dtype = torch.promote_types(pipe.unet.dtype, torch.float32)
    return torch.cat(noise).to(compute_device(pipe.unet), dtype)


def sample(
    pipe: Any, conditioning: BatchConditioning, latents: Tensor, settings: Settings, sampling: Sampling, *,
    generators: list[torch.Generator] | None = None, observer: Observer | None = None, **composer_options: Any,
) -> Iterator[tuple[Step, Tensor]]:  # fmt: skip
    """Run the scheduler from unit noise `latents` (B, C, h, w); yields each step and the latents after it.

    Every hook is removed when the iterator ends, is closed or raises. `generators` (one per image) are for schedulers
    that add noise. `composer_options` go to `Composer`.
    """
    scheduler = pipe.scheduler
    scheduler.set_timesteps(sampling.steps, device=latents.device)
    loras = RowLoras("unet", pipe.unet, conditioning.sets)
    composer = Composer(
        pipe.unet, settings, sampling.steps, loras=loras, observer=observer, guidance_scale=sampling.guidance,
        **composer_options,
    )  # fmt: skip
    denoiser = DiffusersDenoiser(pipe, loras, conditioning, sampling)
    latents = latents * scheduler.init_noise_sigma
    step = -1
    with ExitStack() as stack:
        stack.enter_context(loras.installed())
        stack.enter_context(composer.installed())
        for timestep in scheduler.timesteps:
            # Second-order schedulers evaluate twice per step: only the first evaluation counts as a step and updates.
            first = getattr(scheduler, "state_in_first_order", True)
            step = min(step + 1, sampling.steps - 1) if first or step < 0 else step
            at = denoiser.at(step, timestep)
            guided = sampling.guidance != 1.0
            result = composer.step(step, latents, at.now.plans, at, guidance=guided, update=first)
            noise = result.cond
            if result.uncond is not None:
                noise = guide(result.uncond, result.cond, sampling.guidance, sampling.guidance_rescale)
            extra = {"generator": generators} if generators and _accepts_generator(scheduler) else {}
            latents = scheduler.step(noise, timestep, result.latent, return_dict=False, **extra)[0]
            yield result, latents


def _accepts_generator(scheduler: Any) -> bool:
    return "generator" in type(scheduler).step.__code__.co_varnames


@torch.no_grad()
def decode(pipe: Any, latents: Tensor) -> list[Any]:
    """PIL pictures of latents (B, C, h, w); a half-precision VAE that overflows is run in float32.

    Raises: CLoRAError if memory runs out.
    """
    vae = pipe.vae
    dtype = vae.dtype
    upcast = dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
    try:
        if upcast:
            vae.to(torch.float32)
        scaled = latents.to(compute_device(vae), vae.dtype) / vae.config.scaling_factor
        with memory_errors_told(DECODING):
            pictures = [vae.decode(one[None], return_dict=False)[0] for one in scaled]
    finally:
        if upcast:
            vae.to(dtype)
    return list(pipe.image_processor.postprocess(torch.cat(pictures).float(), output_type="pil"))
