"""One hooked layer of the host: each LoRA set changes its own rows, or all sets change every row (see blend.py).

The host's layer runs once on the whole batch. The rows of each set are sliced, changed by the set's stack and joined
again with `torch.cat`: nothing is written in place, so autograd works, and rows without LoRA stay bit-identical.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CLoRAError
from .blend import Blend, BlendedLayer
from .formats import Delta
from .fused import FusedAttention
from .stack import Stack
from .target import Target

Run = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Rows:
    """Which set each row has: for each set its runs of neighbouring rows (start, stop)."""

    count: int
    runs: dict[int, list[Run]] = field(default_factory=dict)

    @classmethod
    def of(cls, set_of_row: Sequence[int]) -> Rows:
        rows = cls(len(set_of_row))
        start = 0
        for i, index in enumerate(set_of_row):
            if i + 1 == len(set_of_row) or set_of_row[i + 1] != index:
                rows.runs.setdefault(index, []).append((start, i + 1))
                start = i + 1
        return rows


@dataclass(frozen=True, eq=False)
class Blended:
    """A blend, and the runs of the text contexts' rows."""

    blend: Blend
    contexts: Rows


class _Hooked:
    """One hooked module and its sets; the pieces of the last batch layout are kept."""

    def __init__(self, module: nn.Module, axis: int, sets: Mapping[int, Any]) -> None:
        self.module, self.axis, self.sets = module, axis, sets
        self.name = ""
        self._plan: tuple[Rows | None, list[tuple[int, int, int | None]]] = (None, [])

    def touched(self, rows: Rows) -> list[int]:
        """The sets of this layout that change this module."""
        return [index for index in rows.runs if index in self.sets]

    def check(self, tensor: Tensor, axis: int, count: int) -> None:
        """Raises: CLoRAError if the batch has another size than expected, since rows are never guessed."""
        if tensor.shape[axis] != count:
            raise CLoRAError(
                f"The layer {self.name} got {tensor.shape[axis]} rows instead of {count}, so CLoRA cannot tell which "
                "row has which LoRA: turn off extensions that split or join the batch (Hypertile, tiled diffusion)."
            )

    def pieces(self, rows: Rows) -> list[tuple[int, int, int | None]]:
        """The batch as (start, stop, set) in order; set None for rows that this module does not change."""
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

    def mix(self, output: Tensor, axis: int, rows: Rows, changed: Mapping[int, Tensor]) -> Tensor:
        """`output` with the rows of each set taken from `changed[set]`, which holds the set's runs in order."""
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


class HookedLayer(_Hooked):
    """A layer whose deltas act on activations."""

    _blended: BlendedLayer | None = None

    def __call__(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor, rows: Rows | Blended
    ) -> Tensor | None:
        if isinstance(rows, Blended):
            if self.module not in rows.blend.text_layers:
                return self._blend(args, kwargs, output, rows.blend)
            rows = rows.contexts  # each row of the text has one set, which acts on the whole image
        touched = self.touched(rows)
        if not touched:
            return None
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        self.check(x, self.axis, rows.count)
        changed = {}
        for index in touched:
            runs = rows.runs[index]
            mine = _pick(x, self.axis, runs)
            changed[index] = self.sets[index](mine.to(output.dtype), _pick(output, self.axis, runs))
        return self.mix(output, self.axis, rows, changed)

    def _blend(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor, blend: Blend) -> Tensor | None:
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        self.check(x, self.axis, blend.rows)
        if self._blended is None:
            self._blended = BlendedLayer(next(iter(self.sets.values())).layer, self.sets)
        return self._blended(x, output, blend)

    def dense(self, index: int) -> dict[str, Tensor]:
        """Merged "weight" and "bias" of one set, {} if it does not change this layer."""
        if index not in self.sets:
            return {}
        weight, bias = self.sets[index].dense()
        return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


class HookedAttention(_Hooked):
    """An nn.MultiheadAttention: the rows of each set are run again with the set's merged weights."""

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any, rows: Rows | Blended) -> Any:
        assert not isinstance(rows, Blended), "a text encoder has no image positions"
        touched = self.touched(rows)
        if not touched:
            return None
        attended, maps = output
        self.check(attended, self.axis, rows.count)
        rerun: dict[int, tuple[Tensor, Tensor | None]] = {}
        for index in touched:
            runs = rows.runs[index]
            rerun[index] = self.sets[index](args, kwargs, lambda tensor, axis, runs=runs: _pick(tensor, axis, runs))
        attended = self.mix(attended, self.axis, rows, {index: out for index, (out, _) in rerun.items()})
        if maps is not None:
            maps = self.mix(maps, 0, rows, {index: of for index, (_, of) in rerun.items() if of is not None})
        return attended, maps

    def dense(self, index: int) -> dict[str, Tensor]:
        """Merged projections of one set, {} if it does not change this layer."""
        return self.sets[index].dense() if index in self.sets else {}


def hook_of(module: nn.Module, by_set: Mapping[int, Mapping[Target, list[Delta]]]) -> HookedLayer | HookedAttention:
    axis = next(target.row_axis for of in by_set.values() for target in of)
    if isinstance(module, nn.MultiheadAttention):
        fused = {
            index: FusedAttention(module, {target.part: (target, deltas) for target, deltas in of.items()})
            for index, of in by_set.items()
        }
        return HookedAttention(module, axis, fused)
    stacks = {}
    for index, of in by_set.items():
        ((target, deltas),) = of.items()
        stacks[index] = Stack(target.layer(), deltas)
    return HookedLayer(module, axis, stacks)


def bound(layer: HookedLayer | HookedAttention, current: Callable[[], Rows | Blended]) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        return layer(args, kwargs, output, current())

    return hook


def _pick(tensor: Tensor, axis: int, runs: Sequence[Run]) -> Tensor:
    """The rows of these runs; a view if there is only one run."""
    parts = [tensor.narrow(axis, start, stop - start) for start, stop in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)
