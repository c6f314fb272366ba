"""How many rows fit into memory, and fewer of them when it runs out all the same, without losing the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import CLoRAError

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or in main memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


_SPARE = 0.75  # part of the free memory that activations may take; the rest is for what comes and goes


def free_bytes(device: torch.device) -> int | None:
    """Memory that torch can still get on a GPU, what it holds unused with it; None where nobody can tell."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class GraphSize:
    """Bytes of the activations that a forward keeps for its backward."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self._kept: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        """What was kept so far, weights apart."""
        return sum(self._kept.values())

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count what forwards inside this block keep."""

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._weights:
                self._kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            yield


class RowLimit:
    """Most rows in one forward: `size` (0: all at once), halved whenever memory runs out, for the rest of the run."""

    def __init__(self, size: int, warn: Callable[[str], None] = lambda text: None) -> None:
        self.size = size
        self._warn = warn

    def fit(self, rows: int, row_bytes: int, free: int) -> None:
        """Where the size is automatic, no more rows than `free` bytes hold at `row_bytes` each."""
        room = int(_SPARE * free)
        if self.size == 0 and row_bytes > 0 and rows * row_bytes > room:
            self.size = max(1, room // row_bytes)

    def run(self, rows: int, attempt: Callable[[int], Result]) -> Result:
        """`attempt(size)` for work on `rows` rows, again with half as many where memory runs out.

        Raises: CLoRAError if memory runs out with a single row.
        """
        while True:
            try:
                return attempt(self.size)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                alone = min(self.size or rows, rows) <= 1
            # Out here, so that the failed attempt's tensors are gone, which the exception's frames held.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if alone:
                raise CLoRAError(
                    "Memory runs out with a single row at once: choose a smaller picture or Fusion single-pass, or set "
                    "Update until to 0."
                )
            self.size = max(1, min(self.size or rows, rows) // 2)
            self._warn(f"Memory ran out: {self.size} rows are computed at once from here on, which takes longer.")
