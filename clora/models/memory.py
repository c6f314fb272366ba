"""How many rows fit into memory, and fewer of them when it runs out all the same, without losing the run.

Every forward of CLoRA (text encoder, survey, update, rows, single pass) runs inside `RowLimit.run`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import CLoRAError

Result = TypeVar("Result")


_EXCEPTIONS = (getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError), MemoryError)  # torch < 2.5: CUDA's only
_SIGNS = (
    "out of memory", "allocate memory", "not enough memory", "not enough gpu", "alloc_failed", "invalid buffer size",
    "out_of_device_memory", "out_of_host_memory", "out_of_resources",
)  # fmt: skip
"""What the messages of failed allocations have in common on devices without an exception of their own (Apple's MPS,
Intel's XPU, DirectML, cuBLAS, a CPU)."""

ONE_ROW = (
    "Memory runs out with a single row at once: choose a smaller picture or Fusion single-pass, or set Update until to "
    "0."
)
DECODING = (
    "Memory runs out while a picture is decoded: choose a smaller picture, or turn on tiling of the VAE "
    "(pipe.vae.enable_tiling())."
)
ONE_TEXT = (
    "Memory runs out while a single text is encoded: close other programs that use the memory, or choose a smaller "
    "model."
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or in main memory."""
    return isinstance(error, _EXCEPTIONS) or (
        isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
    )


@contextmanager
def memory_errors_told(sentence: str = ONE_ROW) -> Iterator[None]:
    """Memory that runs out inside this block outside of `RowLimit.run` raises a CLoRAError with `sentence`."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise CLoRAError(sentence) from None
        raise


def give_back() -> None:
    """Free what is unused: garbage with reference cycles, and memory that torch holds for later."""
    gc.collect()
    for name in dict.fromkeys(("cuda", "xpu", "mps", *_other_accelerators())):
        module: Any = getattr(torch, name, None)
        there = torch.backends.mps.is_available() if name == "mps" else module is not None and module.is_available()
        if there and hasattr(module, "empty_cache"):
            module.empty_cache()


def _other_accelerators() -> list[str]:
    """The kind of the device that torch is built for, where it can say so (2.6)."""
    current = getattr(getattr(torch, "accelerator", None), "current_accelerator", lambda: None)()
    return [] if current is None else [current.type]


_SPARE = 0.75  # part of the free memory that activations may take; the rest is for what comes and goes


def free_bytes(device: torch.device) -> int | None:
    """Memory that torch can still get on a device, what it holds unused with it; None where nobody can tell."""
    module: Any = getattr(torch, device.type, None)
    try:
        if device.type == "mps":
            return int(module.recommended_max_memory() - module.current_allocated_memory())
        free, _ = module.mem_get_info(device)
        return int(free + module.memory_reserved(device) - module.memory_allocated(device))
    except (AttributeError, RuntimeError, NotImplementedError):  # a CPU, an older torch, a driver that does not say it
        return None


def reset_peak(device: torch.device) -> None:
    """Begin to count `peak_bytes` anew, where the device counts."""
    reset = getattr(getattr(torch, device.type, None), "reset_peak_memory_stats", None)
    if reset is not None:
        reset(device)


def peak_bytes(device: torch.device) -> int | None:
    """Most bytes of tensors on a device since `reset_peak`; None where the device does not count them."""
    peak = getattr(getattr(torch, device.type, None), "max_memory_allocated", None)
    return None if peak is None else int(peak(device))


class GraphSize:
    """Bytes of the activations that a forward keeps for its backward."""

    def __init__(self, model: nn.Module) -> None:
        # By the storage itself, not by the address of its data, which offloaded weights have none of.
        self._weights = {p.untyped_storage()._cdata for p in model.parameters()}
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
            if storage._cdata not in self._weights:
                self._kept[storage._cdata] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            yield


class RowLimit:
    """Most rows in one forward: `size` (0: all at once), halved whenever memory runs out, for the rest of the run.

    `warn` gets the warning about it. `sentence` is the error where not even one row fits.
    """

    def __init__(self, size: int, warn: Callable[[str], None] = lambda text: None, sentence: str = ONE_ROW) -> None:
        self.size = size
        self._asked, self._warn, self._sentence = size, warn, sentence

    def apart(self) -> RowLimit:
        """A limit that begins as this one began, for forwards of another kind, whose rows need another memory."""
        return RowLimit(self._asked, self._warn, self._sentence)

    def fit(self, rows: int, row_bytes: int, free: int) -> None:
        """Where the size is automatic, no more rows than `free` bytes hold at `row_bytes` each."""
        room = int(_SPARE * free)
        if self.size == 0 and row_bytes > 0 and rows * row_bytes > room:
            self.size = max(1, room // row_bytes)

    def run(self, rows: int, attempt: Callable[[int], Result]) -> Result:
        """`attempt(size)` for work on `rows` rows, again with half as many where memory runs out.

        A single row is tried twice, because the first failure frees what nobody uses any more.
        Raises: CLoRAError if memory runs out with a single row.
        """
        last = False
        while True:
            try:
                return attempt(self.size)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Out here, so that the failed attempt's tensors are gone, which the exception's frames held.
            give_back()
            size = min(self.size or rows, rows)
            if size <= 1 and last:
                raise CLoRAError(self._sentence)
            last = size <= 1
            if size > 1:
                self.size = size // 2
                now = "1 row is" if self.size == 1 else f"{self.size} rows are"
                self._warn(f"Memory ran out: {now} computed at once from here on, which takes longer.")
