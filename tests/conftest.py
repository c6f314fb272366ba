"""Where recorded data lies, and small models for the engine's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

DATA = Path(__file__).parent / "data"
GOLDEN = Path(os.environ.get("CLORA_GOLDEN", Path(__file__).parents[1].parent / "shared" / "golden"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of recorded runs, with its model; tests that need it are skipped where it is absent."""
    if not (GOLDEN / "cases").is_dir():
        pytest.skip(f"the folder of recorded runs is not at {GOLDEN} (set CLORA_GOLDEN)")
    return GOLDEN


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)
