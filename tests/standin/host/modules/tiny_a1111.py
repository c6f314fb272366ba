"""A1111's model and denoisers: conditional rows first, x0 for k-diffusion samplers, the noise for timestep samplers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modules import devices, shared
from modules.prompt_parser import at_step
from modules.sd_hijack import model_hijack
from modules.sd_samplers_common import InterruptedException, store_latent
from modules.tiny_network import TextEngine, TextModel, alphas, networks


class Engine(nn.Module, TextEngine):
    """The wrapper round a text model."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.wrapped = model

    @property
    def database(self) -> Any:
        """One for all models."""
        return model_hijack.embedding_db

    def forward(self, texts: Sequence[str]) -> Tensor:
        return self.encode(self.wrapped, texts)


class StableDiffusion(nn.Module):
    """`shared.sd_model`; its parameters ask for gradients."""

    cond_stage_key = "txt"
    kind = "a1111"

    def __init__(self) -> None:
        super().__init__()
        unet, text = networks()
        self.cond_stage_model = Engine(text)
        self.model = nn.Module()
        self.model.diffusion_model, self.model.conditioning_key = unet, "crossattn"
        self.register_buffer("alphas_cumprod", alphas())
        self.unet_module, self.text_module = unet, text

    def get_learned_conditioning(self, texts: Sequence[str]) -> Tensor:
        """Contexts of texts."""
        return self.cond_stage_model(texts)

    def apply_model(self, x: Tensor, t: Tensor, cond: dict[str, Any]) -> Tensor:
        """The noise; entries of `cond` are rewritten."""
        context = torch.cat(cond.pop("c_crossattn"), 1).to(devices.dtype)
        assert cond.pop("c_concat")[0].shape[0] == x.shape[0] == context.shape[0]
        return self.model.diffusion_model(x.to(devices.dtype), t, context=context).to(devices.latent_dtype())


class CompVisDenoiser(nn.Module):
    """x0 in k-diffusion's space."""

    def __init__(self, model: StableDiffusion) -> None:
        super().__init__()
        self.inner_model = model
        self.register_buffer("log_sigmas", ((1 - model.alphas_cumprod) / model.alphas_cumprod).sqrt().log())

    def sigma_to_t(self, sigma: Tensor) -> Tensor:
        """Timesteps, between the levels where sigma is."""
        log = sigma.log()
        low = (torch.searchsorted(self.log_sigmas, log.contiguous()) - 1).clamp(0, 998)
        a, b = self.log_sigmas[low], self.log_sigmas[low + 1]
        return low + ((log - a) / (b - a)).clamp(0, 1)

    def forward(self, x: Tensor, sigma: Tensor, cond: dict[str, Any]) -> Tensor:
        wide = sigma[:, None, None, None]
        eps = self.inner_model.apply_model(x / (wide**2 + 1).sqrt(), self.sigma_to_t(sigma), cond=cond)
        return x - wide * eps


class CompVisTimesteps(nn.Module):
    """The noise at a timestep."""

    def __init__(self, model: StableDiffusion) -> None:
        super().__init__()
        self.inner_model = model

    def forward(self, x: Tensor, timesteps: Tensor, cond: dict[str, Any]) -> Tensor:
        return self.inner_model.apply_model(x, timesteps, cond=cond)


class CFGDenoiser(nn.Module):
    """What a sampler calls."""

    mask_before_denoising = False
    wrap: Any = CompVisDenoiser

    def __init__(self, sampler: Any) -> None:
        super().__init__()
        self.sampler = sampler
        self.model_wrap: Any = None
        self.mask = self.nmask = self.init_latent = None
        self.steps = self.total_steps = None
        self.step = 0

    @property
    def inner_model(self) -> Any:
        """The model in the sampler's space, made when it is first needed."""
        if self.model_wrap is None:
            self.model_wrap = self.wrap(shared.sd_model)
        return self.model_wrap

    def combine_denoised(self, x_out: Tensor, batch: int, cond_scale: float) -> Tensor:
        """Guidance."""
        cond, uncond = x_out[:batch], x_out[-batch:]
        return uncond + (cond - uncond) * cond_scale

    def forward(
        self, x: Tensor, sigma: Tensor, uncond: Any, cond: Any, cond_scale: float, s_min_uncond: float, image_cond: Any
    ) -> Tensor:
        if shared.state.interrupted or shared.state.skipped:
            raise InterruptedException
        context, negative = at_step(cond, self.step), at_step(uncond, self.step)
        batch = x.shape[0]
        if self.mask_before_denoising and self.mask is not None:
            x = x * self.nmask + self.init_latent * self.mask
        skip = s_min_uncond > 0 and self.step % 2 == 1 and float(sigma[0]) < s_min_uncond

        def run(contexts: Tensor) -> Tensor:
            times = len(contexts) // batch
            images = torch.cat([image_cond] * times)
            given = {"c_crossattn": [contexts], "c_concat": [images]}
            return self.inner_model(torch.cat([x] * times), torch.cat([sigma] * times), cond=given)

        if skip:
            x_out = run(context).repeat(2, 1, 1, 1)
        elif context.shape[1] == negative.shape[1]:
            x_out = run(torch.cat([context, negative]))
        else:
            x_out = torch.cat([run(context), run(negative)])
        self.sampler.last_latent = x_out[:batch]
        denoised = self.combine_denoised(x_out, batch, cond_scale)
        if not self.mask_before_denoising and self.mask is not None:
            denoised = denoised * self.nmask + self.init_latent * self.mask
        store_latent(denoised)
        self.step += 1
        return denoised


class CFGDenoiserTimesteps(CFGDenoiser):
    """The denoiser of DDIM."""

    mask_before_denoising = True
    wrap = CompVisTimesteps

    def __init__(self, sampler: Any) -> None:
        super().__init__(sampler)
        self.alphas = shared.sd_model.alphas_cumprod


def load() -> StableDiffusion:
    """The checkpoint."""
    return StableDiffusion()


def denoiser(sampler: Any, timesteps: bool) -> CFGDenoiser:
    """A sampler's denoiser."""
    return (CFGDenoiserTimesteps if timesteps else CFGDenoiser)(sampler)
