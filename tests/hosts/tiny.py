"""Tiny random pipelines of every supported kind, and LoRA files for them, made in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.conftest import GOLDEN

CLASSES = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
EMBEDDED = Path(__file__).parents[2] / "clora" / "embedded" / "assets" / "model" / "tokenizer"


def tokenizer_folder() -> Path:
    """A CLIP tokenizer: the embedded model's, or that of the recorded runs."""
    for folder in (EMBEDDED, GOLDEN / "model" / "tokenizer"):
        if (folder / "vocab.json").is_file():
            return folder
    pytest.skip("no CLIP tokenizer is here")


def _text_encoder(width: int, projection: bool = False, eos: int = 49407) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3, num_attention_heads=2,
        vocab_size=49408, projection_dim=width, bos_token_id=49406, eos_token_id=eos, pad_token_id=49407,
    )  # fmt: skip
    model = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    # A new norm gives embeddings whose mean is 0 but for rounding, and emphasis keeps the mean.
    model.text_model.final_layer_norm.bias.data = torch.linspace(-0.3, 0.7, width)
    return model


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 8), norm_num_groups=2, layers_per_block=1, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def _unet(context: int, **changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    config: dict[str, Any] = dict(  # noqa: C408
        sample_size=16, block_out_channels=(8, 16, 16, 16), layers_per_block=1, cross_attention_dim=context,
        attention_head_dim=2, norm_num_groups=4, down_block_types=CLASSES,
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    )  # fmt: skip
    unet = UNet2DConditionModel(**{**config, **changes})
    for name, parameter in unet.named_parameters():
        if "attn2.to_q" in name or "attn2.to_k" in name:
            nn.init.normal_(parameter, std=1.0)
    return unet


def tiny_sd(prediction: str = "epsilon", **unet: Any) -> Any:
    """A StableDiffusionPipeline with random weights: 128 pixels, maps 4 x 4."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1, prediction_type=prediction,
    )  # fmt: skip
    return _quiet(StableDiffusionPipeline(
        vae=_vae(), text_encoder=_text_encoder(16), tokenizer=CLIPTokenizer.from_pretrained(tokenizer_folder()),
        unet=_unet(16, **unet), scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ))  # fmt: skip


def tiny_sdxl() -> Any:
    """A StableDiffusionXLPipeline with random weights: two encoders, transformer depths 0, 1, 2."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    second = CLIPTokenizer.from_pretrained(tokenizer_folder(), pad_token="!")
    unet = _unet(
        16 + 24, block_out_channels=(8, 16, 16), addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8, transformer_layers_per_block=(1, 1, 2),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
    )  # fmt: skip
    return _quiet(StableDiffusionXLPipeline(
        vae=_vae(), text_encoder=_text_encoder(16), text_encoder_2=_text_encoder(24, projection=True),
        tokenizer=CLIPTokenizer.from_pretrained(tokenizer_folder()), tokenizer_2=second, unet=unet,
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    ))  # fmt: skip


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.eval()
    return pipe


def write_lora(
    path: Path, pipe: Any, seed: int, strength: float = 0.2, extra: dict[str, torch.Tensor] | None = None
) -> Path:
    """A kohya LoRA of rank 2 on the attention of UNet and text encoders, with `extra` tensors in the file."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    parts = [("lora_unet", pipe.unet, ("to_q", "to_k", "to_v"))]
    second = getattr(pipe, "text_encoder_2", None)
    parts.append(("lora_te1" if second is not None else "lora_te", pipe.text_encoder, ("q_proj", "v_proj")))
    if second is not None:
        parts.append(("lora_te2", second, ("q_proj", "v_proj")))
    for prefix, root, ends in parts:
        for name, module in root.named_modules():
            if name.endswith(ends) and isinstance(module, nn.Linear):
                key = f"{prefix}_{name.replace('.', '_')}"
                tensors[f"{key}.lora_down.weight"] = torch.randn(2, module.in_features, generator=generator)
                tensors[f"{key}.lora_up.weight"] = strength * torch.randn(module.out_features, 2, generator=generator)
                tensors[f"{key}.alpha"] = torch.tensor(2.0)
    save_file({**tensors, **(extra or {})}, path)
    return path
