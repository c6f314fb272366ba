"""Row-wise LoRA: each row of a batch gets its own set of LoRAs, by forward hooks; no weight of the host is changed.

out[rows of set s] = the layer with exactly the LoRAs of s merged (see hooked.py). Or one row has all sets at once, each
weighted by a mask over the image (see blend.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import CLoRAError
from .blend import Blend
from .formats import Delta
from .handles import removed_at_end
from .hooked import Blended, Rows, bound, hook_of
from .resolve import AppliedLora
from .target import Target


class RowLoras:
    """Row-wise LoRA on one component.

    component: "unet", "text_encoder" or "text_encoder_2"; root: the module given to `apply_lora` for it.
    sets: set index -> its LoRAs, in order (see stack.py); an empty set changes nothing.
    Make a new object after the host's weights or the LoRAs have changed. Use:

        with loras.installed(), loras.rows([0, 1, 2]):
            unet(...)
    """

    def __init__(self, component: str, root: nn.Module, sets: Sequence[Sequence[AppliedLora]]) -> None:
        self.component = component
        self._root = root
        self._set_count = len(sets)
        self._rows: Rows | None = None
        self._blend: Blended | None = None
        self._installed = False
        by_module: dict[nn.Module, dict[int, dict[Target, list[Delta]]]] = {}
        for index, loras in enumerate(sets):
            for lora in loras:
                for target, deltas in lora.deltas.get(component, {}).items():
                    active = [delta for delta in deltas if delta.strength != 0]
                    if active:
                        by_set = by_module.setdefault(target.module, {}).setdefault(index, {})
                        by_set.setdefault(target, []).extend(active)
        self._layers = [hook_of(module, by_set) for module, by_set in by_module.items()]
        names = {module: name for name, module in root.named_modules()}
        if any(layer.module not in names for layer in self._layers):
            raise CLoRAError("The model was changed after its LoRAs were prepared: start the generation again.")
        for layer in self._layers:
            layer.name = names[layer.module]

    @property
    def layer_count(self) -> int:
        """How many modules are hooked while installed."""
        return len(self._layers)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The hooks exist inside this context only. They run before other hooks of the same modules.

        Raises: CLoRAError if another extension has removed one of them.
        """
        if self._installed:
            raise RuntimeError("the hooks of this RowLoras are already installed")
        handles: list[RemovableHandle] = []
        self._installed = True
        try:
            with removed_at_end(handles):
                for layer in self._layers:
                    hook = bound(layer, self._current)
                    handles.append(layer.module.register_forward_hook(hook, prepend=True, with_kwargs=True))
                yield
        finally:
            self._installed = False

    @contextmanager
    def rows(self, set_of_row: Sequence[int]) -> Iterator[None]:
        """Inside this context, row r has set `set_of_row[r]`. Contexts may be nested; the innermost counts."""
        if any(not 0 <= index < self._set_count for index in set_of_row):
            raise IndexError(f"rows {list(set_of_row)} have sets outside 0..{self._set_count - 1}")
        before, self._rows = self._rows, Rows.of(set_of_row)
        try:
            yield
        finally:
            self._rows = before

    @contextmanager
    def blended(self, blend: Blend) -> Iterator[None]:
        """Inside this context, every row has all sets of the blend, weighted by position; `rows` is ignored."""
        before, self._blend = self._blend, Blended(blend, Rows.of(blend.context_sets))
        try:
            yield
        finally:
            self._blend = before

    def dense(self, index: int) -> dict[str, Tensor]:
        """Parameter name below root -> merged tensor of set `index`, float32 or float64: the reference for tests.

        For `torch.func.functional_call(root, dense, ...)`. A bias is listed even where the layer has none.
        """
        merged: dict[str, Tensor] = {}
        for layer in self._layers:
            merged.update({f"{layer.name}.{name}": tensor for name, tensor in layer.dense(index).items()})
        return merged

    def _current(self) -> Rows | Blended:
        if self._blend is not None:
            return self._blend
        if self._rows is None:
            raise CLoRAError(
                "Internal error: the model ran without knowing which row has which LoRA. Start the generation again; "
                "if it happens again, report it with the log."
            )
        return self._rows
