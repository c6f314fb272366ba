"""The parts of the base model: building, loading, saving, and pictures for contact sheets."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def new_unet() -> UNet2DConditionModel:
    """Stable Diffusion 1.5's block layout with few channels."""
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=2,
        norm_num_groups=4,
    )


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


def new_text_encoder() -> CLIPTextModel:
    """A small causal CLIP text encoder with the full vocabulary and 77 positions."""
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=64,
            intermediate_size=256,
            projection_dim=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    )


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


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """77 tokens each, padded with the end token."""
    ids: Tensor = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    return ids


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


def save(pipe: StableDiffusionPipeline, out: Path) -> None:
    """Write the pipeline's parts in float16, whatever their type in memory."""
    halved = pipeline(copy.deepcopy(pipe.unet), copy.deepcopy(pipe.text_encoder), pipe.vae, pipe.tokenizer)
    halved.unet.half()
    halved.text_encoder.half()
    vae = copy.deepcopy(pipe.vae).half()
    halved.register_modules(vae=vae)
    halved.save_pretrained(out / "model")


def load(out: Path, device: str) -> StableDiffusionPipeline:
    """The saved pipeline in float32."""
    pipe = StableDiffusionPipeline.from_pretrained(out / "model", torch_dtype=torch.float32).to(device)
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
