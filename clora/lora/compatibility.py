"""Which base model a LoRA was made for and which one is loaded: for the error when the two do not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..models.layer_names import Target
from .file import LoraFile
from .keys import flat

_BY_WIDTH = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL", 1280: "the SDXL refiner"}  # width of the text embeddings
_BY_METADATA = (
    ("sdxl", "SDXL"),
    ("stable-diffusion-xl", "SDXL"),
    ("sd3", "SD 3"),
    ("stable-diffusion-v3", "SD 3"),
    ("stable-diffusion-3", "SD 3"),
    ("sd_v2", "SD 2.x"),
    ("stable-diffusion-v2", "SD 2.x"),
    ("sd_v1", "SD 1.x"),
    ("stable-diffusion-v1", "SD 1.x"),
    ("flux", "Flux"),
)
_BY_KEY = (("double_blocks", "Flux"), ("single_transformer_blocks", "Flux"), ("joint_blocks", "SD 3"))


def loaded_family(tables: Mapping[str, Mapping[str, Target]]) -> str | None:
    """The family of the loaded model by the width of its cross-attention; None for an unknown width or no UNet."""
    width = _loaded_width(tables)
    return None if width is None else _BY_WIDTH.get(width)


def describe_loaded(tables: Mapping[str, Mapping[str, Target]]) -> str:
    """The loaded model in words."""
    width = _loaded_width(tables)
    if width is None:
        return "a model without cross-attention"
    return _BY_WIDTH.get(width, f"a model with text embeddings of width {width}")


def _loaded_width(tables: Mapping[str, Mapping[str, Target]]) -> int | None:
    for name, target in tables.get("unet", {}).items():
        if name.endswith("attn2_to_k"):
            return target.layer().shape[1]
    return None


def declared_family(lora: LoraFile) -> str | None:
    """The family that a LoRA's metadata names (`ss_base_model_version`, `modelspec.architecture`), None if silent."""
    for key in ("ss_base_model_version", "modelspec.architecture"):
        text = lora.metadata.get(key, "").casefold()
        for start, family in _BY_METADATA:
            if text.startswith(start):
                return family
    return None


def describe_lora(lora: LoraFile) -> str:
    """What a LoRA was made for, in words, by its metadata or by its tensors."""
    family = declared_family(lora)
    if family:
        return family
    for key, tensors in lora.tensors.items():
        name = flat(key)
        for part, family in _BY_KEY:
            if part in name:
                return family
        down = tensors.get("lora_down")
        if name.endswith("attn2_to_k") and down is not None and down.ndim > 1:
            return _BY_WIDTH.get(down.shape[1], f"a model with text embeddings of width {down.shape[1]}")
    return "another model"


def peft_config(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """diffusers' `lora_adapter_metadata`: JSON with `unet.r`, `unet.lora_alpha`, `unet.alpha_pattern`, ...; else {}."""
    try:
        config = json.loads(metadata.get("lora_adapter_metadata", ""))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
