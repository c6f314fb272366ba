"""Keeps attention probabilities during training."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Recorder:
    """An attention processor that keeps the probabilities, averaged over heads: (rows, cells, tokens)."""

    def __init__(self, kept: list[Tensor]) -> None:
        self._kept = kept

    def __call__(self, attention: Any, states: Tensor, encoder_hidden_states: Tensor, **options: Any) -> Tensor:
        parts = (attention.to_q(states), attention.to_k(encoder_hidden_states), attention.to_v(encoder_hidden_states))
        q, k, v = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in parts)
        scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
        probabilities = scores.softmax(-1)
        self._kept.append(probabilities.mean(1))
        out: Tensor = attention.to_out[0]((probabilities.to(v.dtype) @ v).transpose(1, 2).flatten(2))
        return out
