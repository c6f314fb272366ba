"""Where recorded data lies, and small models for the engine's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

DATA = Path(__file__).parent / "data"
GOLDEN = Path(os.environ.get("CLORA_GOLDEN", Path(__file__).parents[1].parent / "shared" / "golden"))

# The same examples every time.
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.load_profile("fixed")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes share the cores: more threads than cores wait for each other.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Models as small as the tests' are faster in one thread, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
