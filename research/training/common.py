"""Shared by the training scripts: options, seeds, schedules, averaged weights, picture tensors, files."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from clora.embedded import EMBEDDED_ASSETS

ASSETS = EMBEDDED_ASSETS


def options(description: str) -> argparse.ArgumentParser:
    """A parser with the options of every script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=ASSETS, help="the folder of the assets")
    parser.add_argument("--work", type=Path, default=Path("outputs/world"), help="checkpoints, latents, sheets")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def mixed_precision(device: str) -> AbstractContextManager[None]:
    """bfloat16 for convolutions and linear layers. On a CPU attention stays in float32: its backward is faster."""
    kind = torch.device(device).type
    if kind != "cpu":
        return torch.autocast(kind, torch.bfloat16)
    return _cpu_mixed_precision()


@contextmanager
def _cpu_mixed_precision() -> Iterator[None]:
    original = functional.scaled_dot_product_attention

    def in_float32(q: Tensor, k: Tensor, v: Tensor, *args: Any, **options: Any) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return original(q.float(), k.float(), v.float(), *args, **options).to(q.dtype)

    functional.scaled_dot_product_attention = in_float32  # type: ignore[assignment]
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        functional.scaled_dot_product_attention = original
