"""The parts of the base model: building, loading, saving, and pictures for contact sheets."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from clora.embedded import EMBEDDED_MODEL

CHANNELS: dict[str, tuple[int, ...]] = {
    "small": (48, 80, 128, 128),
    "middle": (64, 96, 160, 160),
    "large": (64, 128, 192, 192),
}
TEXT_WIDTH = 64
VOCABULARY = EMBEDDED_MODEL / "tokenizer"


def new_unet(size: str = "middle") -> UNet2DConditionModel:
    """Stable Diffusion 1.5's block layout with few channels."""
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=CHANNELS[size],
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )


class _Silent:
    """An attention processor for a layer whose output weights are zero."""

    def __call__(self, attention: nn.Module, states: Tensor, *args: Any, **options: Any) -> Tensor:
        return torch.zeros_like(states)


@torch.no_grad()
def silence_fine_attention(unet: UNet2DConditionModel) -> None:
    """Zero the self-attention among the 32 x 32 cells, and pass over it when training.

    It would take a quarter of the time, and the coarser levels do its work as well.
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
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    )


def new_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer."""
    return CLIPTokenizer.from_pretrained(VOCABULARY)


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


class Tokens:
    """Token ids of captions, and counts of tokens of their pieces; both keep what they have seen."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self._pieces = cache(lambda piece: tuple(tokenizer(piece, add_special_tokens=False).input_ids))

    def count(self, piece: str) -> int:
        """How many tokens a piece of a caption has."""
        return len(self._pieces(piece))

    def ids(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """77 tokens each (rows, 77), padded with the end token; captions come as lists of pieces."""
        rows = []
        for pieces in captions:
            tokens = [token for piece in pieces for token in self._pieces(piece)][:75]
            rows.append([49406, *tokens, *[49407] * (76 - len(tokens))])
        return torch.tensor(rows)


def pipeline(
    unet: nn.Module, text_encoder: nn.Module, vae: AutoencoderKL, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as a pipeline without safety checker (the world holds nothing to check)."""
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


def load(folder: Path, device: str) -> StableDiffusionPipeline:
    """A saved pipeline in float32."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32).to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def draw(
    pipe: StableDiffusionPipeline, prompts: list[str], seed: int = 0, steps: int = 25, guidance: float = 3.5
) -> list[Image.Image]:
    """One picture per prompt; the picture of seed s and place i does not depend on the other prompts."""
    noise = [torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(prompts))]
    pictures: list[Image.Image] = []
    for i in range(0, len(prompts), 16):
        latents = torch.cat(noise[i : i + 16]).to(pipe.device)
        pictures += pipe(
            prompts[i : i + 16], latents=latents, num_inference_steps=steps, guidance_scale=guidance
        ).images
    return pictures
