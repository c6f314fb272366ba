"""Small random extractors and a segmenter in folders, as `save_pretrained` writes real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    CLIPTokenizerFast,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from tests.hosts.tiny import tokenizer_folder

_TEXT: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407, "max_position_embeddings": 77,
}  # fmt: skip
_SIGHT: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


def _images() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def _tokenizer() -> CLIPTokenizerFast:
    return CLIPTokenizerFast.from_pretrained(tokenizer_folder())


def save_dino(folder: Path, seed: int = 0) -> Path:
    """A DINOv2 with 16 features."""
    torch.manual_seed(seed)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


def save_vit(folder: Path) -> Path:
    """A ViT with 16 features, the class of the first DINO."""
    torch.manual_seed(1)
    ViTModel(ViTConfig(**_SIGHT)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    """A CLIP with 12 features."""
    torch.manual_seed(2)
    CLIPModel(CLIPConfig(text_config=_TEXT, vision_config=_SIGHT, projection_dim=12)).save_pretrained(folder)
    CLIPProcessor(image_processor=_images(), tokenizer=_tokenizer()).save_pretrained(folder)
    return folder


def save_clipseg(folder: Path) -> Path:
    """A CLIPSeg whose maps are of 32 x 32 places."""
    torch.manual_seed(3)
    config = CLIPSegConfig(
        text_config=_TEXT, vision_config=_SIGHT, projection_dim=12, extract_layers=[0, 1, 2], reduce_dim=8,
        decoder_num_attention_heads=2, decoder_intermediate_size=16, conditional_layer=0,
    )  # fmt: skip
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    images = ViTImageProcessor(size={"height": 32, "width": 32})
    CLIPSegProcessor(image_processor=images, tokenizer=_tokenizer()).save_pretrained(folder)
    return folder
