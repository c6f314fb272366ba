"""Attention processors of trainings: plain products, and plain products that keep the probabilities."""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor


def attend(attention: Any, states: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """A layer's output (rows, cells, channels) and its probabilities (rows, heads, cells, tokens), by plain products.

    On a CPU they take half the time of torch's attention.
    """
    source = states if context is None else context
    parts = (attention.to_q(states), attention.to_k(source), attention.to_v(source))
    q, k, v = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in parts)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    probabilities = scores.softmax(-1)
    out: Tensor = attention.to_out[0]((probabilities.to(v.dtype) @ v).transpose(1, 2).flatten(2))
    return out, probabilities


class Plain:
    """An attention processor of plain products."""

    def __call__(
        self, attention: Any, states: Tensor, encoder_hidden_states: Tensor | None = None, **options: Any
    ) -> Tensor:
        return attend(attention, states, encoder_hidden_states)[0]


def use_plain_attention(unet: UNet2DConditionModel) -> None:
    """Plain products in all layers that have torch's attention."""
    kept = unet.attn_processors
    unet.set_attn_processor({name: Plain() if isinstance(one, AttnProcessor2_0) else one for name, one in kept.items()})


class Recorder:
    """An attention processor that keeps the probabilities, averaged over heads: (rows, cells, tokens)."""

    def __init__(self, kept: list[Tensor]) -> None:
        self._kept = kept

    def __call__(self, attention: Any, states: Tensor, encoder_hidden_states: Tensor, **options: Any) -> Tensor:
        out, probabilities = attend(attention, states, encoder_hidden_states)
        self._kept.append(probabilities.mean(1))
        return out
