"""One thread, because these models are so small that more threads would only wait for each other."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All of this folder."""
