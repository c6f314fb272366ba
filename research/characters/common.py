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


def mixed_precision(device: str) -> AbstractContextManager[None]:
    """bfloat16 for convolutions and linear layers on a GPU; on a CPU float32, which was no slower there."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu")
