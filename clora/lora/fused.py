"""LoRA on fused attention (nn.MultiheadAttention of OpenCLIP: A1111's SDXL and SD 2.x text encoders).

Such a module multiplies with `in_proj_weight` and `out_proj.weight` itself and calls no sub-layer, so deltas cannot
act on activations. The rows of a set are computed again with the set's merged weights, which are made once per dtype.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .formats import Delta, cast_outside_autograd
from .stack import Stack
from .target import Target


def _forward(
    query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None, need_weights: bool = True,
    attn_mask: Tensor | None = None, average_attn_weights: bool = True, is_causal: bool = False,
) -> None:  # fmt: skip
    """The arguments of nn.MultiheadAttention.forward, written out because A1111 replaces it by one with *args."""


_SIGNATURE = inspect.signature(_forward)


class FusedAttention:
    """The deltas of one set on one nn.MultiheadAttention."""

    def __init__(self, module: nn.MultiheadAttention, deltas: Mapping[str, tuple[Target, Sequence[Delta]]]) -> None:
        """deltas: part ("in", "q", "k", "v", "out") -> its target, and its deltas in the order of the set."""
        self.module = module
        self._stacks = {part: Stack(target.layer(), of) for part, (target, of) in deltas.items()}
        self._made: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def dense(self) -> dict[str, Tensor]:
        """Merged `in_proj_weight` (3 width, width), `in_proj_bias`, `out_proj.weight`, `out_proj.bias`."""
        module, width = self.module, self.module.embed_dim
        weight, bias = self._merged("in", module.in_proj_weight, module.in_proj_bias)
        for index, part in enumerate("qkv"):
            if part in self._stacks:
                rows = slice(index * width, (index + 1) * width)
                old_weight, old_bias = module.in_proj_weight[rows], module.in_proj_bias
                new_weight, new_bias = self._stacks[part].dense()
                weight = weight.index_add(0, _indices(rows, weight), new_weight - old_weight.detach().to(new_weight))
                if bias is not None and new_bias is not None:
                    bias = bias.index_add(0, _indices(rows, bias), new_bias - old_bias[rows].detach().to(new_bias))
        out_weight, out_bias = self._merged("out", module.out_proj.weight, module.out_proj.bias)
        named = {
            "in_proj_weight": weight,
            "in_proj_bias": bias,
            "out_proj.weight": out_weight,
            "out_proj.bias": out_bias,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def _merged(self, part: str, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if part in self._stacks:
            return self._stacks[part].dense()
        work = torch.float64 if weight.dtype == torch.float64 else torch.float32
        return weight.detach().to(work), None if bias is None else bias.detach().to(work)

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], pick: Any) -> tuple[Tensor, Tensor | None]:
        """The module's output with this set's weights, for the rows that `pick(tensor, axis)` selects."""
        call = _SIGNATURE.bind(*args, **kwargs)
        call.apply_defaults()
        options, module = call.arguments, self.module
        axis = 0 if module.batch_first else 1
        query, key, value = (self._tokens_first(pick(options[name], axis)) for name in ("query", "key", "value"))
        weights = self._cast(query)
        mask, padding = options["attn_mask"], options["key_padding_mask"]
        if mask is not None and mask.ndim == 3:  # (rows * heads, tokens, tokens)
            mask = pick(mask.reshape(-1, module.num_heads, *mask.shape[1:]), 0).flatten(0, 1)
        output, maps = F.multi_head_attention_forward(
            query,
            key,
            value,
            module.embed_dim,
            module.num_heads,
            weights.get("in_proj_weight"),
            weights.get("in_proj_bias"),
            module.bias_k,
            module.bias_v,
            module.add_zero_attn,
            module.dropout,
            weights["out_proj.weight"],
            weights.get("out_proj.bias"),
            training=module.training,
            key_padding_mask=None if padding is None else pick(padding, 0),
            need_weights=options["need_weights"],
            attn_mask=mask,
            average_attn_weights=options["average_attn_weights"],
            is_causal=options["is_causal"],
        )
        return output.transpose(0, 1) if module.batch_first else output, maps

    def _tokens_first(self, tensor: Tensor) -> Tensor:
        return tensor.transpose(0, 1) if self.module.batch_first else tensor

    def _cast(self, like: Tensor) -> dict[str, Tensor]:
        key = (like.device, like.dtype)
        if key not in self._made:
            merged = self.dense()
            made = cast_outside_autograd(like, lambda _: tuple(merged.values()))
            self._made[key] = dict(zip(merged, made, strict=True))
        return self._made[key]


def _indices(rows: slice, like: Tensor) -> Tensor:
    return torch.arange(rows.start, rows.stop, device=like.device)
