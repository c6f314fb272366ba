"""Row-wise LoRA: every row of a batch gets its own set of LoRAs, by forward hooks, no weight of the host changed.

out[rows of set s] = the layer with exactly the LoRAs of s merged. The host's layer runs once on the whole batch; the
rows of each set are sliced, changed by the set's chain and put together again with `torch.cat` (nothing is written in
place, so autograd works, and rows without LoRA keep their bits).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import CLoRAError
from .apply import AppliedLora
from .chain import Chain
from .formats import Delta
from .fused import FusedAttention
from .names import Target

Run = tuple[int, int]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Which set each row has: per set its runs (start, stop)."""

    count: int
    runs: dict[int, list[Run]] = field(default_factory=dict)

    @classmethod
    def of(cls, set_of_row: Sequence[int]) -> _Rows:
        rows = cls(len(set_of_row))
        start = 0
        for i, index in enumerate(set_of_row):
            if i + 1 == len(set_of_row) or set_of_row[i + 1] != index:
                rows.runs.setdefault(index, []).append((start, i + 1))
                start = i + 1
        return rows


class RowLoras:
    """Row-wise LoRA on one component.

    component: "unet", "text_encoder" or "text_encoder_2"; root: the module given to `apply_lora` for it.
    sets: set index -> the LoRAs on in it, in order (see chain.py); an empty set changes nothing.
    Make a new object after the host's weights or the LoRAs changed. Use:

        with loras.installed(), loras.rows([0, 1, 2]):
            unet(...)
    """

    def __init__(self, component: str, root: nn.Module, sets: Sequence[Sequence[AppliedLora]]) -> None:
        self.component = component
        self._root = root
        self._set_count = len(sets)
        self._rows: _Rows | None = None
        self._installed = False
        by_module: dict[nn.Module, dict[int, dict[Target, list[Delta]]]] = {}
        for index, loras in enumerate(sets):
            for lora in loras:
                for target, deltas in lora.deltas.get(component, {}).items():
                    active = [delta for delta in deltas if delta.strength != 0]
                    if active:
                        by_set = by_module.setdefault(target.module, {}).setdefault(index, {})
                        by_set.setdefault(target, []).extend(active)
        self._layers = [_hook_of(module, by_set) for module, by_set in by_module.items()]
        names = {module: name for name, module in root.named_modules()}
        if any(layer.module not in names for layer in self._layers):
            raise CLoRAError("A LoRA was prepared for another model than the loaded one: start the generation again.")
        for layer in self._layers:
            layer.name = names[layer.module]

    @property
    def layer_count(self) -> int:
        """How many modules are hooked while installed."""
        return len(self._layers)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The hooks exist inside this context only; they run before other hooks of the same modules."""
        if self._installed:
            raise RuntimeError("the hooks of this RowLoras are installed already")
        handles: list[RemovableHandle] = []
        self._installed = True
        try:
            for layer in self._layers:
                hook = _bound(layer, self._current)
                handles.append(layer.module.register_forward_hook(hook, prepend=True, with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._installed = False

    @contextmanager
    def rows(self, set_of_row: Sequence[int]) -> Iterator[None]:
        """Forwards inside this context have row r in set `set_of_row[r]`; may be nested, the innermost counts."""
        if any(not 0 <= index < self._set_count for index in set_of_row):
            raise IndexError(f"rows {list(set_of_row)} name sets outside 0..{self._set_count - 1}")
        before, self._rows = self._rows, _Rows.of(set_of_row)
        try:
            yield
        finally:
            self._rows = before

    def dense(self, index: int) -> dict[str, Tensor]:
        """Parameter name below root -> merged tensor of set `index`, float32 or float64: the reference path.

        For `torch.func.functional_call(root, dense, ...)`. A bias on a layer without one is listed all the same.
        """
        merged: dict[str, Tensor] = {}
        for layer in self._layers:
            merged.update({f"{layer.name}.{name}": tensor for name, tensor in layer.dense(index).items()})
        return merged

    def _current(self) -> _Rows:
        if self._rows is None:
            raise CLoRAError(
                "A forward ran with row-wise LoRAs on but without saying which row has which: "
                "start the generation again, and report this with the log."
            )
        return self._rows


class _Hooked:
    """One hooked module: its sets, and the cut of the batch, kept for the layout it was made for."""

    def __init__(self, module: nn.Module, axis: int, sets: Mapping[int, Any]) -> None:
        self.module, self.axis, self.sets = module, axis, sets
        self.name = ""
        self._plan: tuple[_Rows | None, list[tuple[int, int, int | None]]] = (None, [])

    def touched(self, rows: _Rows) -> list[int]:
        """The sets of this layout that change this module."""
        return [index for index in rows.runs if index in self.sets]

    def check(self, tensor: Tensor, axis: int, rows: _Rows) -> None:
        """Rows are never guessed: a batch of another size is an error."""
        if tensor.shape[axis] != rows.count:
            raise CLoRAError(
                f"The layer {self.name} got {tensor.shape[axis]} rows instead of {rows.count}, so LoRAs cannot be told "
                "apart there: switch off extensions that cut or join the batch (Hypertile, tiled diffusion)."
            )

    def pieces(self, rows: _Rows) -> list[tuple[int, int, int | None]]:
        """The batch as (start, stop, set) in order, set None for neighbouring rows without change here."""
        if self._plan[0] is not rows:
            cuts = sorted(
                (start, stop, index if index in self.sets else None)
                for index, runs in rows.runs.items()
                for start, stop in runs
            )
            joined: list[tuple[int, int, int | None]] = []
            for start, stop, index in cuts:
                if joined and index is None and joined[-1][2] is None:
                    start = joined.pop()[0]
                joined.append((start, stop, index))
            self._plan = (rows, joined)
        return self._plan[1]

    def mix(self, output: Tensor, axis: int, rows: _Rows, changed: Mapping[int, Tensor]) -> Tensor:
        """`output` with the rows of each set taken from `changed[set]`, which holds them run after run."""
        taken = dict.fromkeys(changed, 0)
        parts: list[Tensor] = []
        for start, stop, index in self.pieces(rows):
            if index is None:
                parts.append(output.narrow(axis, start, stop - start))
            else:
                part = changed[index].narrow(axis, taken[index], stop - start)
                taken[index] += stop - start
                parts.append(part.to(output.dtype))
        return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


class _HookedLayer(_Hooked):
    """A layer with deltas on activations."""

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor, rows: _Rows) -> Tensor | None:
        touched = self.touched(rows)
        if not touched:
            return None
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        self.check(x, self.axis, rows)
        changed = {}
        for index in touched:
            runs = rows.runs[index]
            mine = _pick(x, self.axis, runs)
            changed[index] = self.sets[index](mine.to(output.dtype), _pick(output, self.axis, runs))
        return self.mix(output, self.axis, rows, changed)

    def dense(self, index: int) -> dict[str, Tensor]:
        """Merged "weight" and "bias" of one set."""
        if index not in self.sets:
            return {}
        weight, bias = self.sets[index].dense()
        return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


class _HookedAttention(_Hooked):
    """An nn.MultiheadAttention: the rows of a set run again with its merged weights."""

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any, rows: _Rows) -> Any:
        touched = self.touched(rows)
        if not touched:
            return None
        attended, maps = output
        self.check(attended, self.axis, rows)
        again: dict[int, tuple[Tensor, Tensor | None]] = {}
        for index in touched:
            runs = rows.runs[index]
            again[index] = self.sets[index](args, kwargs, lambda tensor, axis, runs=runs: _pick(tensor, axis, runs))
        attended = self.mix(attended, self.axis, rows, {index: out for index, (out, _) in again.items()})
        if maps is not None:
            maps = self.mix(maps, 0, rows, {index: of for index, (_, of) in again.items() if of is not None})
        return attended, maps

    def dense(self, index: int) -> dict[str, Tensor]:
        """Merged projections of one set."""
        return self.sets[index].dense() if index in self.sets else {}


def _hook_of(module: nn.Module, by_set: Mapping[int, Mapping[Target, list[Delta]]]) -> _HookedLayer | _HookedAttention:
    axis = next(target.row_axis for of in by_set.values() for target in of)
    if isinstance(module, nn.MultiheadAttention):
        fused = {
            index: FusedAttention(module, {target.part: (target, deltas) for target, deltas in of.items()})
            for index, of in by_set.items()
        }
        return _HookedAttention(module, axis, fused)
    chains = {}
    for index, of in by_set.items():
        ((target, deltas),) = of.items()
        chains[index] = Chain(target.layer(), deltas)
    return _HookedLayer(module, axis, chains)


def _bound(layer: _HookedLayer | _HookedAttention, current: Callable[[], _Rows]) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        return layer(args, kwargs, output, current())

    return hook


def _pick(tensor: Tensor, axis: int, runs: Sequence[Run]) -> Tensor:
    """The rows of these runs, a view where there is one run only."""
    parts = [tensor.narrow(axis, start, stop - start) for start, stop in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)
