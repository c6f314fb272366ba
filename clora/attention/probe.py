"""Reads attention maps from queries and keys during a host's own forward (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import CLoRAError
from ..lora.handles import check_hooks, removed_at_end
from ..models import CrossAttention, ModelFamily, family_of

Result = TypeVar("Result")


class ForwardStopped(Exception):
    """Raised by the last probe to end a forward whose remaining layers are not needed. Never leaves this module."""


def attention_columns(query: Tensor, key: Tensor, heads: int, scale: float, columns: Tensor) -> Tensor:
    """Softmax probabilities of chosen text positions (paper equation 2), float32 or better.

    `query` (R, n, heads*d) and `key` (R, L, heads*d) give (R, heads, n, K) for `columns` (K,): the normaliser runs
    over all L positions, the probabilities are formed for the K needed ones only. `scale` 0 means 1/sqrt(d).
    """
    rows, length, inner = query.shape
    head_dim = inner // heads
    dtype = torch.promote_types(query.dtype, torch.float32)
    q = query.reshape(rows, length, heads, head_dim).transpose(1, 2).to(dtype)
    k = key.reshape(rows, key.shape[1], heads, head_dim).transpose(1, 2).to(dtype)
    scores = q @ k.transpose(-1, -2) * (scale or head_dim**-0.5)
    normaliser = torch.logsumexp(scores, dim=-1, keepdim=True)
    return torch.exp(scores.index_select(-1, columns) - normaliser)


@dataclass
class _Collection:
    """What the hooks gather during one forward."""

    grid: tuple[int, int]
    columns: Sequence[int]
    stop: bool
    names: tuple[str, ...]
    keep_layers: bool
    total: Tensor | None = None
    probed: int = 0
    layers: dict[str, Tensor] = field(default_factory=dict)
    query: Tensor | None = None
    index: Tensor | None = None

    def index_for(self, query: Tensor) -> Tensor:
        """The columns (K,) on the query's device: weights may lie on another one."""
        if self.index is None or self.index.device != query.device:
            self.index = torch.tensor(list(self.columns), dtype=torch.long, device=query.device)
        return self.index


class AttentionProbe:
    """Reads attention maps during a host's own forward, whatever attention implementation the host uses.

    Forward hooks on the query and key projections of every cross-attention layer see what the host computes; only
    layers whose query has as many cells as the map grid count. Hooks exist inside `installed()` alone. Install after
    row-wise LoRAs, so that the probe sees projections with the LoRAs on.
    """

    def __init__(self, model: nn.Module, family: ModelFamily | None = None) -> None:
        """`family` is found by the model's structure where it is not given. Raises: CLoRAError for unknown models."""
        self.model = model
        self.family = family or family_of(model)
        self.layers = self.family.cross_attention(model)
        self.dtype: torch.dtype | None = None
        """In which the model computes: that of the queries seen last. Its weights may be kept in another one."""
        self._order: dict[tuple[int, int], tuple[str, ...]] = {}
        self._seen: list[tuple[str, int]] | None = None
        self._active: _Collection | None = None
        self._queries: dict[str, list[Tensor]] | None = None
        self._handles: list[RemovableHandle] = []

    @contextmanager
    def installed(self) -> Iterator[AttentionProbe]:
        """The hooks exist inside this block and are removed on every way out of it.

        Raises: CLoRAError if another extension has removed one of them.
        """
        handles = self._handles = []
        try:
            with removed_at_end(handles):
                for layer in self.layers:
                    handles.append(layer.to_q.register_forward_hook(self._query_hook(layer)))
                    handles.append(layer.to_k.register_forward_hook(self._key_hook(layer)))
                yield self
        finally:
            self._active = self._seen = None

    @contextmanager
    def queries(self) -> Iterator[dict[str, list[Tensor]]]:
        """The queries (R, h_a * w_a, heads * d), float32, of each probed layer, forward by forward, of the
        collections inside this block."""
        found: dict[str, list[Tensor]] = {}
        self._queries = found
        try:
            yield found
        finally:
            self._queries = None

    def survey(self, size: tuple[int, int], forward: Callable[[], Any]) -> tuple[str, ...]:
        """Names of the probed layers for a latent of `size` (h, w), in the order in which they run.

        The first call for a size runs `forward` once (any single row, no gradient needed) and keeps the answer.
        Raises: CLoRAError if no layer has the map grid.
        """
        grid = self.family.map_grid(*size)
        if grid not in self._order:
            self._seen = []
            try:
                forward()
                seen = self._seen
            finally:
                self._seen = None
            names = tuple(name for name, length in seen if length == grid[0] * grid[1])
            if not names:
                factor = self.family.spatial_factor
                raise CLoRAError(
                    f"No cross-attention layer of this model has the {grid[0]} x {grid[1]} map grid of a "
                    f"{size[1] * factor} x {size[0] * factor} image: choose another size, or an SD 1.5, SD 2.x or "
                    "SDXL model."
                )
            self._order[grid] = names
        return self._order[grid]

    def collect(
        self,
        size: tuple[int, int],
        columns: Sequence[int],
        forward: Callable[[], Result],
        *,
        stop: bool = False,
        keep_layers: bool = False,
        which: str = "all",
    ) -> tuple[Tensor, Result | None, dict[str, Tensor]]:
        """Run `forward` over R rows and average the maps of the probed layers and their heads.

        Returns maps (R, K, h_a, w_a) for the K text positions `columns`, the forward's own result (None with
        `stop`, which ends the forward after the last probed layer) and, with `keep_layers`, each layer's
        probabilities (R, heads, h_a*w_a, K) by name. `which` is "all" layers of the map grid, or "down" for the
        early ones (all, if the grid has no early layer). `survey` must have run for this `size` before a `stop`.
        Raises: CLoRAError if the forward calls no query and key projections.
        """
        grid = self.family.map_grid(*size)
        names = self._order.get(grid, ())
        if which == "down":
            early = {layer.name for layer in self.layers if layer.early}
            names = tuple(name for name in names if name in early) or names
        if stop and not names:
            raise RuntimeError("survey() must run before a forward can be stopped")
        active = _Collection(grid, columns, stop, names, keep_layers)
        self._active = active
        result: Result | None = None
        try:
            result = forward()
        except ForwardStopped:
            pass
        finally:
            self._active = None
        if active.total is None:
            check_hooks(self._handles)
            raise CLoRAError(
                "The model's attention layers did not call their query and key projections, so CLoRA gets no attention "
                "maps: turn off fused projections, or the extension that replaces the attention."
            )
        rows = active.total.shape[0]
        maps = active.total.transpose(1, 2).reshape(rows, len(columns), *grid) / active.probed
        return maps, result, active.layers

    def _query_hook(self, layer: CrossAttention) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.dtype = output.dtype
            if self._seen is not None:
                self._seen.append((layer.name, output.shape[1]))
            active = self._active
            if active is not None:
                wanted = output.shape[1] == active.grid[0] * active.grid[1]
                wanted = wanted and (layer.name in active.names or not active.names)
                active.query = output if wanted else None
                if wanted and self._queries is not None:
                    self._queries.setdefault(layer.name, []).append(output.float())

        return hook

    def _key_hook(self, layer: CrossAttention) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            active = self._active
            if active is None or active.query is None:
                return
            # Hosts may repeat rows of a context for every query row; the batch of the query is the one that counts.
            query, columns = active.query, active.index_for(active.query)
            probabilities = attention_columns(query, output, layer.heads, layer.scale, columns)
            active.query = None
            mean = probabilities.mean(dim=1)
            active.total = mean if active.total is None else active.total + mean
            active.probed += 1
            if active.keep_layers:
                active.layers[layer.name] = probabilities
            if active.stop and layer.name == active.names[-1]:
                raise ForwardStopped

        return hook
