"""Fusion in every layer: one row draws all variants, once the masks are known.

Exact fusion runs N + 1 rows and fuses their predictions. Here one row runs: LoRAs change the cells inside their mask
(lora/blend.py), and in cross-attention every cell reads the texts of the variants whose masks cover it. With a mask
that covers everything this equals that variant's own row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..attention.maps import latent_rows
from ..errors import CLoRAError
from ..lora.blend import Blend
from ..lora.handles import removed_at_end
from ..lora.rows import RowLoras
from ..models import CrossAttention, ModelFamily
from ..models.denoiser import Denoiser, Row
from .forwards import base_rows
from .look_guidance import weakened


class ReplacedAttentionError(CLoRAError):
    """Another extension computes the cross-attention from a layer's parts, without calling the layer."""


def row_weights(rows: Sequence[Row], masks: Sequence[Tensor], share: float = 1.0) -> Tensor:
    """How much each of `rows` counts at each cell, (F, h, w), from `masks[image]` (V, h, w): the rows of one image
    and half add up to 1, and a single row counts everywhere. Unconditional ones of concepts count `share` times."""
    halves = (tuple(weakened(mask, share) for mask in masks), masks)
    own = [halves[row.conditional][row.image][row.variant] for row in rows]
    weights = []
    for row, mask in zip(rows, own, strict=True):
        total = torch.stack([m for r, m in zip(rows, own, strict=True) if r[::2] == row[::2]])
        weights.append(mask / total.sum(dim=0) if len(total) > 1 else torch.ones_like(mask))
    return torch.stack(weights)


@dataclass
class _Active:
    """What the hooks need of F rows: the index of each one's base row, as a tensor and as a list, contexts, weights."""

    base: Tensor
    base_of: list[int]
    contexts: Tensor
    blend: Blend
    inside: bool = False

    @property
    def count(self) -> int:
        """Rows that run."""
        return self.blend.rows


class LayerwiseFusion:
    """Runs a denoiser's base rows with all variants in them; hooks exist inside `installed()` alone.

    Install after the row-wise LoRAs and before the probe, which sees each row's queries as if it ran alone then.
    """

    def __init__(self, layers: Sequence[CrossAttention], family: ModelFamily, loras: RowLoras) -> None:
        self._layers, self._family, self._loras = layers, family, loras
        self._active: _Active | None = None

    @contextmanager
    def installed(self) -> Iterator[LayerwiseFusion]:
        """The hooks exist inside this block and are removed on every way out of it.

        Raises: CLoRAError if another extension has removed one of them.
        """
        handles: list[RemovableHandle] = []
        try:
            with removed_at_end(handles):
                for layer in self._layers:
                    handles += (
                        layer.module.register_forward_pre_hook(self._enter, with_kwargs=True),
                        layer.module.register_forward_hook(self._leave),
                        layer.to_q.register_forward_pre_hook(self._narrow),
                        layer.to_q.register_forward_hook(self._widen),
                        layer.to_out.register_forward_pre_hook(self._mix),
                    )
                yield self
        finally:
            self._active = None

    def predict(
        self, latent: Tensor, rows: tuple[Row, ...], masks: Sequence[Tensor], denoiser: Denoiser, share: float = 1.0
    ) -> Tensor:
        """Predictions (R, C, h, w) of `base_rows(rows)`, fused by `masks[image]` (V, h, w), from latent (B, C, h, w).

        `rows` are all variants, in the order of `clora.conditioning.plan.rows_of`. `share` is how much of the concepts
        the unconditional rows have.
        Raises: ReplacedAttentionError where another extension has replaced the attention.
        """
        base = base_rows(rows)
        number = {(row.image, row.conditional): index for index, row in enumerate(base)}
        base_of = [number[row.image, row.conditional] for row in rows]
        given = denoiser.conditioning(rows)
        weights = row_weights(rows, masks, share).to(latent.device, torch.promote_types(latent.dtype, torch.float32))
        index = torch.tensor(base_of, device=latent.device)
        self._active = _Active(index, base_of, given.contexts, self._blend(weights, base_of, len(base), given.sets))
        vectors = None if given.vectors is None else _mean(given.vectors, weights, base_of, len(base))
        try:
            with self._loras.blended(self._active.blend):
                return denoiser.predict(latent_rows(latent, base), base, vectors=vectors)
        finally:
            self._active = None

    def _blend(self, weights: Tensor, base_of: Sequence[int], count: int, set_of: Sequence[int]) -> Blend:
        """The LoRA sets' weights (R, S, h, w) from those of the rows, (F, h, w)."""
        sets = tuple(dict.fromkeys(set_of))
        summed = weights.new_zeros(count, len(sets), *weights.shape[1:])
        for row, index in enumerate(set_of):
            summed[base_of[row], sets.index(index)] += weights[row]
        text_layers = {module for layer in self._layers for module in (layer.to_k, layer.to_v)}
        return Blend(summed, sets, set_of, weights, text_layers)

    # ------------------------------------------------------------------ hooks of one cross-attention layer

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The layer runs on F rows, each with its own context."""
        active = self._active
        if active is None:
            return None
        active.inside = True
        x: Tensor = args[0]
        if x.shape[0] != active.count:
            raise CLoRAError(
                f"A layer got {x.shape[0]} rows instead of {active.count}: turn off extensions that cut or join the "
                "batch, or set Fusion to exact."
            )
        context = active.contexts.to(self._family.context(args, kwargs))
        return self._family.with_call(args, kwargs, x.index_select(0, active.base), context)

    def _leave(self, *_: Any) -> None:
        if self._active is not None:
            self._active.inside = False

    def _narrow(self, _: nn.Module, args: tuple[Any, ...]) -> Any:
        """Queries are computed once for each row that runs: all variants of a row have the same."""
        active = self._active
        if active is None:
            return None
        if not active.inside:
            raise ReplacedAttentionError("Another extension has replaced the cross-attention: set Fusion to exact.")
        return (args[0][: active.count], *args[1:])

    def _widen(self, _: nn.Module, __: Any, query: Tensor) -> Tensor | None:
        return None if self._active is None else query.index_select(0, self._active.base)

    def _mix(self, _: nn.Module, args: tuple[Any, ...]) -> Any:
        """What each cell read in the variants' texts, added up by the weights."""
        active = self._active
        if active is None:
            return None
        read: Tensor = args[0]
        weights = active.blend.context_rows_at(read)
        mixed = torch.zeros_like(read[: active.count])
        for row, base in enumerate(active.base_of):
            mixed[base].addcmul_(read[row], weights[row])
        return (mixed, *args[1:])


def _mean(vectors: Tensor, weights: Tensor, base_of: Sequence[int], count: int) -> Tensor:
    """Each running row's pooled text (R, A): the mean of its variants' (F, A), as much of each as of the picture."""
    shares = weights.new_zeros(count, len(base_of))
    for row, base in enumerate(base_of):
        shares[base, row] = weights[row].mean()
    return (shares @ vectors.to(shares)).to(vectors.dtype)
