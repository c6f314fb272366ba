"""What the scripts share: options, seeds, schedules, averaged weights, picture tensors, files."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path

import torch


def options(description: str) -> argparse.ArgumentParser:
    """The options every script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--work", type=Path, default=Path("outputs/characters"), help="art, latents, models, sheets")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def add_bfloat16(parser: argparse.ArgumentParser) -> None:
    """The option of trainings to calculate in bfloat16 on a CPU as well."""
    parser.add_argument("--bf16", action="store_true", help="on a CPU too: faster with AVX512_BF16 or AMX only")


def mixed_precision(device: str, bf16: bool = False) -> AbstractContextManager[None]:
    """bfloat16 for convolutions and linear layers on a GPU, on a CPU on demand only."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=bf16 or kind != "cpu")
