"""Attention, and the one of them that the host has chosen at its start."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attention_pytorch(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """(B, n, heads * d) of queries, keys and values: (B, n, heads * d)."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


attention_function = attention_pytorch
