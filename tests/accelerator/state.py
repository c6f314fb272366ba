"""What the accelerator has and has not, and its memory."""

from __future__ import annotations

from typing import Any

import torch

NAME = "pretend"
GIGABYTE = 1 << 30


class Device:
    """The module `torch.pretend`: what torch and CLoRA ask of a device."""

    def __init__(self) -> None:
        self.float64 = self.autocast = self.linear_algebra = self.uneven_pooling = True
        self.limit: int | None = None
        self.words = "PRETEND out of memory"
        self.used = self.peak = 0
        self.is_available = self.is_initialized = lambda: True
        self.current_device = lambda: 0
        self.device_count = lambda: 1
        self._is_in_bad_fork = lambda: False
        self.synchronize = self.manual_seed_all = self.empty_cache = lambda *_: None

    def __getattr__(self, name: str) -> Any:
        if name == "get_amp_supported_dtype" and self.autocast:
            return lambda: [torch.float16, torch.bfloat16]
        raise AttributeError(name)

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Free and all bytes."""
        total = GIGABYTE if self.limit is None else self.limit
        return total - self.used, total

    def memory_allocated(self, device: Any = None) -> int:
        """Bytes of the tensors that are there."""
        return self.used

    memory_reserved = memory_allocated

    def max_memory_allocated(self, device: Any = None) -> int:
        """The most of them since `reset_peak_memory_stats`."""
        return self.peak

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        """Begin anew."""
        self.peak = self.used

    def take(self, size: int) -> None:
        """Room for a new tensor. Raises: RuntimeError as a device does that has no more."""
        if self.limit is not None and self.used + size > self.limit:
            raise RuntimeError(self.words)
        self.used += size
        self.peak = max(self.peak, self.used)


DEVICE = Device()
