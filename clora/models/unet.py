"""The UNets of SD 1.5, SD 2.x and SDXL, in diffusers' and in CompVis' (SGM's) module trees."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..lora.compatibility import base_model_of_width, describe_width
from ..lora.target import Target
from .base import CrossAttention, ModelFamily
from .clip_layers import clip_targets
from .unet_layers import unet_targets

_CROSS_ATTENTION = "attn2"
"""Name of the cross-attention in every transformer block, in both module trees."""
_CONTEXTS = ("encoder_hidden_states", "context")
"""What diffusers and CompVis call the text's context of a cross-attention layer."""
_DOWN = re.compile(r"(^|\.)(down_blocks|input_blocks)\.")


class UNetFamily(ModelFamily):
    """Stable Diffusion's UNets."""

    name = "UNet (SD 1.5, SD 2.x, SDXL)"

    def matches(self, model: nn.Module) -> bool:
        """True for a module tree with cross-attention layers of the UNets' name."""
        return any(True for _ in _layers(model))

    def cross_attention(self, model: nn.Module) -> tuple[CrossAttention, ...]:
        """Every `attn2`; the layers of the down blocks are early."""
        found = []
        for name, module in _layers(model):
            scale = float(getattr(module, "scale", 0.0) or 0.0)
            out = module.to_out[0]  # a projection and a dropout
            early = bool(_DOWN.search(name))
            layer = CrossAttention(
                name, module, module.to_q, module.to_k, module.to_v, out, int(module.heads), scale, early
            )
            found.append(layer)
        return tuple(found)

    def map_grid(self, height: int, width: int) -> tuple[int, int]:
        """A quarter of the latent, rounded up (paper section 3.1: 16 x 16 maps for 64 x 64 latents)."""
        return math.ceil(height / 4), math.ceil(width / 4)

    def lora_targets(self, component: str, root: nn.Module) -> Mapping[str, Target]:
        """Under diffusers' and CompVis' names; CLIP's text models under Hugging Face's and OpenCLIP's."""
        return unet_targets(root) if component == "unet" else clip_targets(root)

    def base_model(self, model: nn.Module | None) -> tuple[str | None, str]:
        """By the width of the text embeddings, the input of cross-attention."""
        for name, target in unet_targets(model).items() if model is not None else ():
            if name.endswith("attn2_to_k"):
                width = target.layer().shape[1]
                return base_model_of_width(width), describe_width(width)
        return None, "a model without cross-attention"

    def latent_scale(self, sigma: float) -> float:
        """sqrt(1 + sigma^2), k-diffusion's noising x = x0 + sigma * noise (Karras et al. 2022)."""
        return math.sqrt(1.0 + sigma * sigma)

    def context(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """By name, or the second argument."""
        named = _named(kwargs)
        given: Tensor = kwargs[named] if named else args[1]
        return given

    def with_call(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], states: Tensor, context: Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """States are the first argument; the context stays where it was."""
        named = _named(kwargs)
        rest = args[1:] if named else (context, *args[2:])
        return (states, *rest), {**kwargs, **({named: context} if named else {})}


def _layers(model: nn.Module) -> Any:
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] == _CROSS_ATTENTION and hasattr(module, "to_q") and hasattr(module, "to_k"):
            yield name, module


def _named(kwargs: Mapping[str, Any]) -> str | None:
    return next((name for name in _CONTEXTS if kwargs.get(name) is not None), None)
