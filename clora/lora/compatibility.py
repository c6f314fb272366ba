"""Which base model a LoRA was made for, by its metadata or its tensors."""

from __future__ import annotations

from .file import LoraFile
from .keys import flat

_BY_WIDTH = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL", 1280: "the SDXL refiner"}
"""Width of the text embeddings -> base model."""
_WIDTH_KEY = "attn2_to_k"  # its input are the text embeddings
_METADATA_KEYS = ("ss_base_model_version", "modelspec.architecture")
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
"""Start of the metadata's value -> base model."""
_BY_KEY = (("double_blocks", "Flux"), ("single_transformer_blocks", "Flux"), ("joint_blocks", "SD 3"))
"""Part of a module's name -> base model."""


def base_model_of_width(width: int) -> str | None:
    """The base model whose text embeddings have this width, None if unknown."""
    return _BY_WIDTH.get(width)


def describe_width(width: int) -> str:
    """A model with text embeddings of this width, in words."""
    return _BY_WIDTH.get(width, f"a model with text embeddings of width {width}")


def declared_base_model(lora: LoraFile) -> str | None:
    """The base model that a LoRA's metadata names, None if it names no known one."""
    for key in _METADATA_KEYS:
        text = lora.metadata.get(key, "").casefold()
        for start, family in _BY_METADATA:
            if text.startswith(start):
                return family
    return None


def describe_lora(lora: LoraFile) -> str:
    """The base model of a LoRA in words, by its metadata or else by its tensors."""
    family = declared_base_model(lora)
    if family:
        return family
    for key, tensors in lora.tensors.items():
        name = flat(key)
        for part, family in _BY_KEY:
            if part in name:
                return family
        down = tensors.get("lora_down")
        if name.endswith(_WIDTH_KEY) and down is not None and down.ndim > 1:
            return describe_width(down.shape[1])
    return "another model"
