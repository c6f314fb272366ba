"""Which base model a LoRA was made for, by its metadata or its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .file import LoraFile
from .identity import other_model
from .keys import flat

_BY_WIDTH = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL", 1280: "the SDXL refiner"}
"""Width of the text embeddings -> base model."""
_WIDTH_KEY = re.compile(r"attn2_to_[kv]\Z")  # their input are the text embeddings
_METADATA_KEYS = ("ss_base_model_version", "modelspec.architecture")
_BY_METADATA = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        (r"sd_?xl|stable[-_ ]diffusion[-_ ]xl|\A(?:pony|illustrious|noobai)", "SDXL"),
        (r"sd_?3|stable[-_ ]diffusion[-_ ](?:v?3)", "SD 3"),
        (r"sd[_ ]?v?2|stable[-_ ]diffusion[-_ ]v?2", "SD 2.x"),
        (r"sd[_ ]?v?1|stable[-_ ]diffusion[-_ ]v?1", "SD 1.x"),
        (r"flux[._-]?2", "Flux.2"),
        (r"chroma", "Chroma"),
        (r"flux", "Flux"),
        (r"qwen", "Qwen-Image"),
        (r"z[-_]?image", "Z-Image"),
        (r"lumina", "Lumina 2"),
        (r"hunyuan[-_ ]?video|framepack", "HunyuanVideo"),
        (r"hunyuan[-_ ]?image", "HunyuanImage"),
        (r"hunyuan", "HunyuanDiT"),
        (r"hidream", "HiDream"),
        (r"\Awan", "Wan"),
        (r"kolors", "Kolors"),
        (r"pixart", "PixArt"),
        (r"sana\b", "Sana"),
        (r"aura[-_]?flow", "AuraFlow"),
        (r"cosmos|anima\b", "Cosmos or Anima"),
        (r"ltx", "LTX-Video"),
        (r"cascade|wuerstchen", "Stable Cascade"),
    )
)
"""What the metadata's value starts with or holds -> base model; the first match counts."""
_SDXL_ONLY = re.compile(
    r"(?:\A|_)te2_|text_encoder_2_|clip_g_|add_embedding|label_emb|"
    r"(?:input_blocks_[4578]_1|middle_block_1|output_blocks_[0-5]_1|attentions_\d)_transformer_blocks_[1-9]"
)
"""Names of layers that SDXL's UNet and text encoders have, and those of SD 1.x and SD 2.x have not."""
_OLDER_ONLY = re.compile(r"(?:down|up)_blocks_3_|input_blocks_(?:9|1[01])_|output_blocks_(?:9|1[01])_")
_TEXT_LAYER = re.compile(r"text_model_encoder_layers_\d+_self_attn_[qkv]_proj\Z|resblocks_\d+_attn_in_proj\Z")
_BY_TEXT_WIDTH = {1024: "SD 2.x", 1280: "SDXL"}


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
        for pattern, family in _BY_METADATA:
            if pattern.search(text):
                return family
    return "SD 2.x" if lora.metadata.get("ss_v2") == "True" else None


def model_by_tensors(lora: LoraFile) -> str | None:
    """The base model of a LoRA by the names and shapes of its tensors, None if they show none."""
    other = other_model(lora)
    if other:
        return other
    names = {flat(key): tensors for key, tensors in lora.tensors.items()}
    width = text_width(lora)
    if width is not None:
        return describe_width(width)
    if any(_SDXL_ONLY.search(name) for name in names):
        return "SDXL"
    for name, tensors in names.items():
        family = _BY_TEXT_WIDTH.get(_width(tensors) or 0) if _TEXT_LAYER.search(name) else None
        if family:
            return family
    return "SD 1.x or SD 2.x" if any(_OLDER_ONLY.search(name) for name in names) else None


def text_width(lora: LoraFile) -> int | None:
    """The width of the text embeddings that a LoRA's layers take, None if its tensors do not show it."""
    for key, tensors in lora.tensors.items():
        width = _width(tensors) if _WIDTH_KEY.search(flat(key)) else None
        if width is not None:
            return width
    return None


def _width(tensors: Mapping[str, Tensor]) -> int | None:
    """The number of input features of a module's layer, as far as its format shows it."""
    for suffix in ("lora_down", "q_layer", "diff", "hada_w1_b", "b2", "a1"):
        if suffix in tensors and tensors[suffix].ndim > 1:
            return tensors[suffix].shape[0 if suffix == "a1" else 1]
    if "hra_u" in tensors:
        return tensors["hra_u"].shape[0]
    halves = [_half(tensors, number) for number in (1, 2)]
    return None if None in halves else (halves[0] or 0) * (halves[1] or 0)


def _half(tensors: Mapping[str, Tensor], number: int) -> int | None:
    """The input features of one half of a LoKr."""
    half = tensors.get(f"lokr_w{number}", tensors.get(f"lokr_w{number}_b"))
    return None if half is None or half.ndim < 2 else half.shape[1]
