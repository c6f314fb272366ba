"""The parts of a small diffusion model that do not depend on its world: scheduler, pipeline, files, pictures."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTokenizer


class _Silent:
    """An attention processor for a layer whose output weights are zero."""

    def __call__(self, attention: nn.Module, states: Tensor, *args: Any, **options: Any) -> Tensor:
        return torch.zeros_like(states)


@torch.no_grad()
def silence_fine_attention(unet: UNet2DConditionModel) -> None:
    """Zero the self-attention among the 32 x 32 cells, and skip it in training.

    It would take a quarter of the time, and the coarser levels do the same work.
    """
    processors = unet.attn_processors
    for name in processors:
        if "attn1" in name and name.startswith(("down_blocks.0.", "up_blocks.3.")):
            processors[name] = _Silent()
            layer = unet.get_submodule(name.removesuffix(".processor"))
            layer.requires_grad_(False)
            for parameter in layer.to_out.parameters():
                parameter.zero_()
    unet.set_attn_processor(processors)


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise levels; the model predicts v; sampling starts at the last level."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def pipeline(
    unet: nn.Module, text_encoder: nn.Module, vae: AutoencoderKL, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as a pipeline. It has no safety checker, because the world needs none."""
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save(pipe: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline's parts in float16, whatever their type in memory."""
    parts = (copy.deepcopy(part).half() for part in (pipe.unet, pipe.text_encoder, pipe.vae))
    unet, text_encoder, vae = parts
    pipeline(unet, text_encoder, vae, pipe.tokenizer).save_pretrained(folder)
    config = folder / "vae" / "config.json"
    kept = json.loads(config.read_text("utf-8"))
    kept.pop("_name_or_path", None)  # a folder of this machine
    config.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def load(folder: Path, device: str) -> StableDiffusionPipeline:
    """A saved pipeline in float32."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32).to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def draw(
    pipe: StableDiffusionPipeline, prompts: list[str], seed: int = 0, steps: int = 25, guidance: float = 3.5
) -> list[Image.Image]:
    """One picture per prompt; picture i has the noise of seed + i and does not depend on the other prompts."""
    noise = [torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(prompts))]
    pictures: list[Image.Image] = []
    for i in range(0, len(prompts), 16):
        latents = torch.cat(noise[i : i + 16]).to(pipe.device)
        pictures += pipe(
            prompts[i : i + 16], latents=latents, num_inference_steps=steps, guidance_scale=guidance
        ).images
    return pictures
