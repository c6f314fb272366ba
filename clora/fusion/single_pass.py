"""One row draws all variants: the fast way of fusing, once the masks are known.

The exact fusion runs N + 1 rows and fuses their predictions. Here one row runs, and the fusion happens in every layer:
LoRAs change what lies in their mask (lora/blend.py), and in cross-attention every place reads the texts of the variants
whose masks it lies in. With a mask that covers everything this is that variant's own row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..attention.maps import latent_rows
from ..attention.probe import CrossAttention, find_cross_attention
from ..errors import CLoRAError
from ..lora.blend import Blend
from ..lora.rows import RowLoras
from ..models.denoiser import Denoiser, Row

_CONTEXT_NAMES = ("encoder_hidden_states", "context")
"""What diffusers and CompVis call the text's context of a cross-attention layer."""


def base_rows(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows that run: each image's base, conditional and (where `rows` have it) unconditional."""
    return tuple(row for row in rows if row.variant == 0)


def row_weights(rows: Sequence[Row], masks: Sequence[Tensor]) -> Tensor:
    """How much each of `rows` counts at each place, (F, h, w), from `masks[image]` (V, h, w): the rows of one image
    and half add up to 1, and one that is alone counts everywhere."""
    own = [masks[row.image][row.variant] for row in rows]
    found = []
    for row, mask in zip(rows, own, strict=True):
        total = torch.stack([m for r, m in zip(rows, own, strict=True) if r[::2] == row[::2]])
        found.append(mask / total.sum(dim=0) if len(total) > 1 else torch.ones_like(mask))
    return torch.stack(found)


@dataclass
class _Active:
    """What the hooks need of F rows: the base row of each, as a tensor and as numbers, contexts and weights."""

    base: Tensor
    places: list[int]
    contexts: Tensor
    blend: Blend
    inside: bool = False

    @property
    def count(self) -> int:
        """Rows that run."""
        return self.blend.rows


class SinglePass:
    """Runs a denoiser's base rows with all variants in them; hooks exist inside `installed()` alone.

    Install after the row-wise LoRAs and before the taps: these see each row's queries as if it ran alone.
    """

    def __init__(self, unet: nn.Module, loras: RowLoras) -> None:
        self._layers = find_cross_attention(unet)
        self._loras = loras
        self._active: _Active | None = None

    @contextmanager
    def installed(self) -> Iterator[SinglePass]:
        """The hooks exist inside this block and are removed on every way out of it."""
        with ExitStack() as stack:
            for layer in self._layers:
                for handle in (
                    layer.module.register_forward_pre_hook(self._enter, with_kwargs=True),
                    layer.module.register_forward_hook(self._leave),
                    layer.to_q.register_forward_pre_hook(self._narrow),
                    layer.to_q.register_forward_hook(self._widen),
                    _output(layer).register_forward_pre_hook(self._mix),
                ):
                    stack.callback(handle.remove)
            stack.callback(setattr, self, "_active", None)
            yield self

    def predict(self, latent: Tensor, rows: tuple[Row, ...], masks: Sequence[Tensor], denoiser: Denoiser) -> Tensor:
        """Predictions (R, C, h, w) of `base_rows(rows)`, fused by `masks[image]` (V, h, w), from latent (B, C, h, w).

        `rows` are all variants, in the order of `clora.conditioning.plan.rows_of`.
        Raises: CLoRAError where another extension has replaced the attention.
        """
        base = base_rows(rows)
        place = {(row.image, row.conditional): index for index, row in enumerate(base)}
        given = denoiser.conditioning(rows)
        places = [place[row.image, row.conditional] for row in rows]
        weights = row_weights(rows, masks).to(latent.device, torch.promote_types(latent.dtype, torch.float32))
        index = torch.tensor(places, device=latent.device)
        self._active = _Active(index, places, given.contexts, _blend(weights, places, len(base), given.sets))
        vectors = None if given.vectors is None else _mean(given.vectors, weights, places, len(base))
        try:
            with self._loras.blended(self._active.blend):
                return denoiser.predict(latent_rows(latent, base), base, vectors=vectors)
        finally:
            self._active = None

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
        named = next((name for name in _CONTEXT_NAMES if kwargs.get(name) is not None), None)
        given = kwargs[named] if named else args[1]
        context = active.contexts.to(given)
        rest = args[1:] if named else (context, *args[2:])
        return (x.index_select(0, active.base), *rest), {**kwargs, **({named: context} if named else {})}

    def _leave(self, *_: Any) -> None:
        if self._active is not None:
            self._active.inside = False

    def _narrow(self, _: nn.Module, args: tuple[Any, ...]) -> Any:
        """Queries are computed once for each row that runs: all variants of a row have the same."""
        active = self._active
        if active is None:
            return None
        if not active.inside:
            raise CLoRAError(
                "Another extension has replaced the cross-attention (IP-Adapter, for instance): turn it off for this "
                "picture, or set Fusion to exact."
            )
        return (args[0][: active.count], *args[1:])

    def _widen(self, _: nn.Module, __: Any, query: Tensor) -> Tensor | None:
        return None if self._active is None else query.index_select(0, self._active.base)

    def _mix(self, _: nn.Module, args: tuple[Any, ...]) -> Any:
        """What each place read in the variants' texts, added up by the weights."""
        active = self._active
        if active is None:
            return None
        read: Tensor = args[0]
        weights = active.blend.context_rows_at(read)
        mixed = torch.zeros_like(read[: active.count])
        for row, base in enumerate(active.places):
            mixed[base].addcmul_(read[row], weights[row])
        return (mixed, *args[1:])


def _output(layer: CrossAttention) -> nn.Module:
    """The projection after the attention: the first of what hosts keep in a list."""
    out: Any = layer.module.to_out
    first: nn.Module = out[0]
    return first


def _mean(vectors: Tensor, weights: Tensor, places: Sequence[int], count: int) -> Tensor:
    """Each running row's pooled text (R, A): the mean of its variants' (F, A), as much of each as of the picture."""
    shares = weights.new_zeros(count, len(places))
    for row, base in enumerate(places):
        shares[base, row] = weights[row].mean()
    return (shares @ vectors.to(shares)).to(vectors.dtype)


def _blend(weights: Tensor, base: Sequence[int], count: int, set_of: Sequence[int]) -> Blend:
    """Weights (R, S, h, w) of the sets from those of the rows, (F, h, w)."""
    sets = tuple(dict.fromkeys(set_of))
    summed = weights.new_zeros(count, len(sets), *weights.shape[1:])
    for row, index in enumerate(set_of):
        summed[base[row], sets.index(index)] += weights[row]
    return Blend(summed, sets, set_of, weights)
