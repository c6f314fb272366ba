"""Forge's model, patcher and denoiser: inference tensors, the unconditional rows first, x0 always."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import backend.nn.unet
import torch
from torch import Tensor, nn

from modules import devices, shared
from modules.prompt_parser import at_step
from modules.sd_hijack import EmbeddingDatabase
from modules.sd_samplers_common import InterruptedException, store_latent
from modules.tiny_network import TextEngine, alphas, networks


class Engine(TextEngine):
    """Forge's text engine; no module itself."""

    def __init__(self, text_encoder: nn.Module) -> None:
        self.text_encoder, self.embeddings = text_encoder, EmbeddingDatabase()

    @property
    def database(self) -> EmbeddingDatabase:
        """The engine's own."""
        return self.embeddings

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Contexts."""
        return self.encode(self.text_encoder, texts)


class Predictor(nn.Module):
    """What the model predicts, and noise levels."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_sigmas", ((1 - alphas()) / alphas()).sqrt().log())

    def timestep(self, sigma: Tensor) -> Tensor:
        """Timesteps, between the levels where sigma is."""
        log = sigma.log()
        low = (torch.searchsorted(self.log_sigmas, log.contiguous()) - 1).clamp(0, 998)
        a, b = self.log_sigmas[low], self.log_sigmas[low + 1]
        return low + ((log - a) / (b - a)).clamp(0, 1)


class KModel(nn.Module):
    """The UNet in sigma space."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.diffusion_model, self.predictor = unet, Predictor()
        self.computation_dtype = devices.dtype

    @property
    def noise_levels(self) -> Predictor:
        """Under Forge's name."""
        return self.predictor

    def apply_model(
        self, x: Tensor, t: Tensor, c_concat: Any = None, c_crossattn: Any = None, control: Any = None,
        transformer_options: dict[str, Any] | None = None, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        """x0."""
        sigma = t[:, None, None, None]
        assert c_crossattn.shape[0] == x.shape[0]
        timestep = self.noise_levels.timestep(t)
        dtype = self.computation_dtype
        eps = self.diffusion_model(
            (x / (sigma**2 + 1).sqrt()).to(dtype), timestep, context=c_crossattn.to(dtype), control=control,
            transformer_options=transformer_options, **kwargs,
        )  # fmt: skip
        return x - sigma * eps.to(devices.latent_dtype())


class UnetPatcher:
    """A model with options; a clone shares the model and has its own options."""

    def __init__(self, model: KModel) -> None:
        self.model = model
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.extra_concat_condition = None
        self.extra_preserved_memory_during_sampling = 0
        self.load_device = devices.device
        self.controlnet_linked_list: Callable[[Tensor, list[int]], dict[str, list[Any]]] | None = None

    def clone(self) -> UnetPatcher:
        """With a deep copy of the options: bound methods in them are copied with their instances."""
        new = UnetPatcher(self.model)
        new.model_options = copy.deepcopy(self.model_options)
        new.load_device = self.load_device
        new.extra_concat_condition = self.extra_concat_condition
        new.extra_preserved_memory_during_sampling = self.extra_preserved_memory_during_sampling
        new.controlnet_linked_list = self.controlnet_linked_list
        return new

    def add_extra_preserved_memory_during_sampling(self, memory_in_bytes: int) -> None:
        """Ask for room."""
        self.extra_preserved_memory_during_sampling += memory_in_bytes


class ForgeObjects:
    """What a generation works with."""

    def __init__(self, unet: UnetPatcher) -> None:
        self.unet = unet

    def shallow_copy(self) -> ForgeObjects:
        """The same patchers in another holder."""
        return ForgeObjects(self.unet)


class StableDiffusion:
    """`shared.sd_model`: Forge's SD 1.5 engine."""

    kind = "forge"

    def __init__(self) -> None:
        unet, text = networks(in_place=True, attention=(backend.nn.unet, "attention_function"))
        self.forge_objects_original = ForgeObjects(UnetPatcher(KModel(unet)))
        self.forge_objects_after_applying_lora = self.forge_objects_original.shallow_copy()
        self.forge_objects = self.forge_objects_original.shallow_copy()
        self.text_processing_engine = Engine(text)
        self.alphas_cumprod = alphas()
        self.unet_module, self.text_module = unet, text

    def get_learned_conditioning(self, texts: Sequence[str]) -> Tensor:
        """Contexts of texts."""
        return self.text_processing_engine(texts)


class Wrap(nn.Module):
    """The model as k-diffusion's samplers know it."""

    def __init__(self, sd_model: StableDiffusion) -> None:
        super().__init__()
        self.inner_model = sd_model


def sampling_function(
    patcher: UnetPatcher, x: Tensor, sigma: Tensor, cond: Tensor, uncond: Tensor | None, scale: float, apart: bool
) -> Tensor:
    """Guidance over one call of the model, or over one for each half where memory is short."""
    halves = [(0, cond)] if uncond is None else [(1, uncond), (0, cond)]
    found = {}
    for group in [[half] for half in halves] if apart else [halves]:
        longest = max(context.shape[1] for _, context in group)
        marks = [mark for mark, _ in group]
        c = {
            "c_crossattn": torch.cat([context.repeat(1, longest // context.shape[1], 1) for _, context in group]),
            "transformer_options": {**patcher.model_options["transformer_options"], "cond_or_uncond": marks},
        }
        given, timestep = torch.cat([x] * len(group)), torch.cat([sigma] * len(group))
        if patcher.controlnet_linked_list is not None:
            c["control"] = patcher.controlnet_linked_list(given, marks)
        if "model_function_wrapper" in patcher.model_options:
            wrapper = patcher.model_options["model_function_wrapper"]
            asked = {"input": given, "timestep": timestep, "c": c, "cond_or_uncond": marks}
            result = wrapper(patcher.model.apply_model, asked)
        else:
            result = patcher.model.apply_model(given, timestep, **c)
        found.update(zip(marks, result.chunk(len(group)), strict=True))
    return found[0] if uncond is None else found[1] + (found[0] - found[1]) * scale


class CFGDenoiser(nn.Module):
    """What a sampler calls."""

    def __init__(self, sampler: Any, timesteps: bool) -> None:
        super().__init__()
        self.sampler = sampler
        self.model_wrap: Any = None
        self.mask = self.nmask = self.init_latent = None
        self.steps = self.total_steps = None
        self.step = 0
        self.apart = False
        self.classic_ddim_eps_estimation = timesteps

    @property
    def inner_model(self) -> Any:
        """The model, wrapped."""
        if self.model_wrap is None:
            self.model_wrap = Wrap(shared.sd_model)
        return self.model_wrap

    def forward(
        self, x: Tensor, sigma: Tensor, uncond: Any, cond: Any, cond_scale: float, s_min_uncond: float, image_cond: Any
    ) -> Tensor:
        if shared.state.interrupted or shared.state.skipped:
            raise InterruptedException
        if self.classic_ddim_eps_estimation:
            alpha = self.inner_model.inner_model.alphas_cumprod
            sigma = ((1 - alpha) / alpha).sqrt()[sigma.round().long().clip(0, 999)]
            x = x * (sigma[:, None, None, None] ** 2 + 1).sqrt()
        if self.mask is not None:
            noisy = self.init_latent + sigma[:, None, None, None] * torch.randn_like(self.init_latent)
            x = x * self.nmask + noisy * self.mask
        negative = None if cond_scale == 1.0 else at_step(uncond, self.step)
        patcher = self.inner_model.inner_model.forge_objects.unet
        denoised = sampling_function(patcher, x, sigma, at_step(cond, self.step), negative, cond_scale, self.apart)
        if self.mask is not None:
            denoised = denoised * self.nmask + self.init_latent * self.mask
        self.sampler.last_latent = denoised
        store_latent(denoised)
        self.step += 1
        if self.classic_ddim_eps_estimation:
            return (x - denoised) / sigma[:, None, None, None]
        return denoised


def load() -> StableDiffusion:
    """The checkpoint, loaded in inference mode: autograd refuses its parameters."""
    with torch.inference_mode():
        return StableDiffusion()


def denoiser(sampler: Any, timesteps: bool) -> CFGDenoiser:
    """A sampler's denoiser."""
    return CFGDenoiser(sampler, timesteps)
