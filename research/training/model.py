"""The parts of the base model: building, loading, saving, and pictures for contact sheets."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import Tensor
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


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """77 tokens each, padded with the end token."""
    ids: Tensor = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    return ids
