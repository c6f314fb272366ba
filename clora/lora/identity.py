"""What a file is, by the names of its tensors: a LoRA for another kind of model, or no LoRA at all.

The names come from the trainers' and diffusers' files. Where a name fits several models, the width of a layer decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from .file import LoraFile
from .keys import flat

_PREFIX = re.compile(r"\A(?:(?:base_model|model|lora|lycoris|oft|diffusion_model|transformer(?!_blocks)|unet|dit)_)+")
_LORA_SUFFIX = re.compile(r"lora_|hada_|lokr_|oft_|boft_|vera_|ia3_|hra_|diff|dora|magnitude|[ab][12]\Z|[pq]_layer")


@dataclass(frozen=True)
class Signature:
    """A pattern for a module's flat name without prefixes; `widths` of the layer's input, None for any."""

    model: str
    pattern: str
    widths: tuple[int, ...] | None = None


_TOP_BLOCKS = r"\Atransformer_blocks_\d+_"
_LUMINA_BLOCKS = r"\A(?:layers|noise_refiner|context_refiner)_\d+_(?:attention|feed_forward|adaLN)"
_COSMOS_BLOCKS = r"\Ablocks_\d+_(?:adaln_modulation|(?:self|cross)_attn_(?:[qkv]|output)_proj|mlp_layer)"
_SIGNATURES = tuple(
    (signature, re.compile(signature.pattern))
    for signature in (
        Signature("Flux.2", r"double_stream_modulation|to_qkv_mlp_proj|single_stream_modulation"),
        Signature("Chroma", r"distilled_guidance_layer"),
        Signature("HunyuanVideo", r"individual_token_refiner|double_blocks_\d+_(?:img|txt)_mlp_fc\d"),
        Signature("HiDream", r"(?:double|single)_stream_blocks"),
        Signature("AuraFlow", r"joint_transformer_blocks|\A(?:double|single)_layers_\d+_(?:attn|mlp)"),
        Signature("Flux", r"double_blocks|single_blocks|single_transformer_blocks"),
        Signature("SD 3", r"joint_blocks"),
        Signature("Qwen-Image", _TOP_BLOCKS + r"(?:img|txt)_(?:mlp|mod)"),
        Signature("Qwen-Image", r"\Atransformer_blocks_(?:19|[2-5]\d)_attn_"),
        Signature("SD 3", _TOP_BLOCKS + r"attn_(?:to|add)_", (1536, 2432)),
        Signature("Flux or Qwen-Image", _TOP_BLOCKS + r"attn_(?:to|add)_", (3072,)),
        Signature("PixArt", _TOP_BLOCKS + r"attn[12]_to_", (1152,)),
        Signature("LTX-Video", _TOP_BLOCKS + r"attn[12]_to_", (2048, 4096)),
        Signature("Z-Image", _LUMINA_BLOCKS, (3840,)),
        Signature("Lumina 2", _LUMINA_BLOCKS, (2304,)),
        Signature("Z-Image or Lumina", _LUMINA_BLOCKS),
        Signature("Wan", r"\Ablocks_\d+_(?:self_attn|cross_attn)_(?:[qkvo]|k_img|v_img|norm_[qk])\Z"),
        Signature("Wan", r"\Ablocks_\d+_ffn_[02]\Z"),
        Signature("Cosmos or Anima", _COSMOS_BLOCKS),
        Signature("HunyuanDiT", r"\Ablocks_\d+_attn[12]_(?:Wqkv|to_[qkv]|[qk]v?_proj|out_proj)"),
        Signature("Stable Cascade", r"\A(?:prior_unet|down_blocks_\d+_\d+_(?:attention|channelwise|kv_mapper))"),
        Signature("a language model", r"\Alayers_\d+_(?:self_attn|mlp|input_layernorm)_"),
        Signature("a T5 text encoder", r"\A(?:te3_|text_encoder_3_)?encoder_block_\d+_layer"),
        Signature("a transformer model (SD 3, Flux, ...)", _TOP_BLOCKS),
    )
)
_TRANSFORMER_PREFIX = re.compile(r"\A(?:base_model\.model\.)?(?:(?:lora_|lycoris_)?transformer|dit)[._]")


@dataclass(frozen=True)
class OtherFile:
    """A file that is no LoRA: what it is, and what to do with it."""

    what: str
    advice: str


_EMBEDDING = OtherFile(
    "a textual inversion embedding", "put it into the embeddings folder and write its name in the prompt, without a tag"
)
_OTHERS: tuple[tuple[re.Pattern[str], OtherFile], ...] = tuple(
    (re.compile(pattern), OtherFile(what, advice))
    for pattern, what, advice in (
        (
            r"\Astring_to_(?:param|token)|\Aemb_params\Z|\Aclip_[lg]\Z|\Abundle_emb\.",
            _EMBEDDING.what,
            _EMBEDDING.advice,
        ),
        (
            r"\Alora_controlnet|\Acontrol_model\.|(?:\A|\.)input_hint_block|controlnet_|zero_convs|\Aadapter\.body\.",
            "a ControlNet",
            "put it into the ControlNet folder and choose it in the ControlNet extension",
        ),
        (
            r"\Aip_adapter[._]|\Aimage_proj|to_[kv]_ip\.",
            "an IP-Adapter",
            "put it into the ControlNet folder and choose it in the ControlNet extension",
        ),
        (r"motion_modules?[._]|temporal_transformer", "a motion module of AnimateDiff", "use it in AnimateDiff"),
        (
            r"\A(?:model\.diffusion_model|cond_stage_model|conditioner)\.|"
            r"\A(?:diffusion_model|(?:unet\.|transformer\.)?(?:down_blocks|"
            r"conv_in|time_embedding|double_blocks|single_transformer_blocks|joint_blocks|transformer_blocks|x_embedder))"
            r"\..*\b(?:to_[qkv]|to_out\.0|conv\d?|conv_in|proj|proj_in|proj_out|qkv|norm\d?|linear_\d|\d+)\.weight\Z|"
            r"\A(?:unet\.)?conv_in\.weight\Z",
            "a checkpoint",
            "put it into the folder of checkpoints and choose it there",
        ),
        (
            r"\A(?:first_stage_model|vae)\.|\A(?:encoder|decoder)\.(?:conv_in|conv_out|down|up|mid|mid_block|down_blocks|"
            r"up_blocks|norm_out|layers)(?:\.|\Z)|\A(?:post_)?quant_conv\.|\Ataesd",
            "a VAE",
            "put it into the VAE folder and choose it as the VAE",
        ),
        (
            r"\A(?:text_encoder\w*\.)?(?:text_model|text_projection|transformer\.resblocks|encoder\.block|shared)\b",
            "a text encoder",
            "put it into the folder of text encoders",
        ),
        (
            r"\A(?:model\.\d+\.|body\.\d+\.rdb|conv_first\.|params(?:_ema)?\b)",
            "an upscaler",
            "put it into the folder of upscalers and choose it there",
        ),
    )
)


def other_model(lora: LoraFile) -> str | None:
    """The model that a LoRA's names belong to, if it is no UNet of SD 1.x, SD 2.x or SDXL; None if nothing shows one.

    Every name counts with the first signature that it fits; of all these, the first in the list is the answer, because
    models share names with those further down.
    """
    found: set[int] = set()
    transformer = False
    for key, tensors in lora.tensors.items():
        name, width = _PREFIX.sub("", flat(key)), _input_width(tensors)
        transformer |= bool(_TRANSFORMER_PREFIX.match(key))
        for index, (signature, pattern) in enumerate(_SIGNATURES):
            if pattern.search(name) and (signature.widths is None or width in signature.widths):
                found.add(index)
                break
    if found:
        return _SIGNATURES[min(found)][0].model
    return "a transformer model (SD 3, Flux, ...)" if transformer else None


def other_file(lora: LoraFile) -> OtherFile | None:
    """What a file is if it is no LoRA; None if it has tensors of a LoRA or shows nothing else."""
    keys = list(_keys(lora))
    for pattern, other in _OTHERS:
        if any(pattern.search(key) for key in keys):
            motion_or_control = other.what.startswith(("a motion", "a ControlNet", "an IP"))
            if motion_or_control or not has_lora_tensors(lora):
                return other
    return _EMBEDDING if _looks_like_an_embedding(lora) else None


def has_lora_tensors(lora: LoraFile) -> bool:
    """Whether any tensor has a suffix that only LoRAs have."""
    return any(_LORA_SUFFIX.match(suffix) for tensors in lora.tensors.values() for suffix in tensors)


def _keys(lora: LoraFile) -> Iterable[str]:
    for module, tensors in lora.tensors.items():
        for suffix in tensors:
            yield f"{module}.{suffix}" if module else suffix


def _looks_like_an_embedding(lora: LoraFile) -> bool:
    """diffusers names the tensors after the token (`<cat>`); others `emb`: vectors of a text encoder's width."""
    tensors = [tensor for of in lora.tensors.values() for tensor in of.values()]
    vectors = all(t.ndim in (1, 2) and t.shape[-1] in (768, 1024, 1280) for t in tensors)
    return set(lora.tensors) == {""} and 0 < len(tensors) <= 4 and vectors


def _input_width(tensors: Mapping[str, Tensor]) -> int | None:
    for suffix in ("lora_down", "hada_w1_b", "diff"):
        if suffix in tensors and tensors[suffix].ndim > 1:
            return tensors[suffix].shape[1]
    return None
