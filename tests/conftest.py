"""Where recorded data lies, and small models for the engine's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

DATA = Path(__file__).parent / "data"
GOLDEN = Path(os.environ.get("CLORA_GOLDEN", Path(__file__).parents[1].parent / "shared" / "golden"))


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)
