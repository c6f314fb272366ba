"""A make-believe accelerator: the torch device "pretend", whose tensors are computed on the CPU.

It refuses what a real one refuses and a CPU alone cannot show: tensors of two devices in one operation, float64 where
the device has none (`without_float64`; Apple's MPS, many XPUs), autocast and linear algebra where it has none
(`without_autocast`, `without_linear_algebra`; MPS, DirectML), and more memory than it has (`limited`, with the words in
which a device says so). Autograd, inference mode, views, hooks and `torch.nn` work as usual.

A tensor on it is a plain `torch.Tensor` without data; its storage knows the CPU storage with the data. Needs a version
of torch that takes backends written in Python (2.11); `AVAILABLE` says so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor, nn

from tests.accelerator.kernels import device
from tests.accelerator.state import DEVICE, NAME

__all__ = ["AVAILABLE", "DEVICE", "NAME", "device", "needs_accelerator"]

AVAILABLE = hasattr(torch._C, "_acc") and hasattr(torch._C._acc, "create_empty_tensor")
needs_accelerator = pytest.mark.skipif(not AVAILABLE, reason="this torch takes no backends written in Python")


@contextmanager
def _without(feature: str) -> Iterator[None]:
    setattr(DEVICE, feature, False)
    try:
        yield
    finally:
        setattr(DEVICE, feature, True)


def without_float64() -> AbstractContextManager[None]:
    """A block in which the device has no float64."""
    return _without("float64")


def without_autocast() -> AbstractContextManager[None]:
    """A block in which torch knows no autocast for the device."""
    return _without("autocast")


def without_linear_algebra() -> AbstractContextManager[None]:
    """A block in which the device has no operators of linear algebra."""
    return _without("linear_algebra")


def without_uneven_pooling() -> AbstractContextManager[None]:
    """A block in which the device takes means of areas only where their sizes divide, as MPS does."""
    return _without("uneven_pooling")


@contextmanager
def limited(free: int, words: str = "PRETEND out of memory") -> Iterator[None]:
    """No more than `free` bytes besides what is there; what does not fit raises a RuntimeError with `words`."""
    DEVICE.limit, DEVICE.words = DEVICE.used + free, words
    try:
        yield
    finally:
        DEVICE.limit = None


def cast_in_forward(layer: nn.Module) -> None:
    """Let a layer move its weights to its input's device and dtype in each forward, as hosts do that keep them on the
    CPU or in another dtype."""
    bare = copy.deepcopy(layer)

    def forward(x: Tensor) -> Tensor:
        return torch.func.functional_call(bare, {name: one.to(x) for name, one in layer.named_parameters()}, x)

    layer.forward = forward  # type: ignore[method-assign]


if AVAILABLE:
    # Now, because autograd counts the devices at the first backward of a process.
    device()
