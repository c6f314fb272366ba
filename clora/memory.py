"""Fewer rows at once when memory runs out, without losing the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from .errors import CLoRAError

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or in main memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


class RowLimit:
    """Most rows in one forward: `size` (0: all at once), halved whenever memory runs out, for the rest of the run."""

    def __init__(self, size: int, warn: Callable[[str], None] = lambda text: None) -> None:
        self.size = size
        self._warn = warn

    def run(self, rows: int, attempt: Callable[[int], Result]) -> Result:
        """`attempt(size)` for work on `rows` rows, again with half as many where memory runs out.

        Errors: CLoRAError when it runs out with a single row.
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
