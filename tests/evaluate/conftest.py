"""Small models, and a finished run with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluate.readers import save_clip, save_clipseg, save_dino
from tests.evaluate.running import PROMPTS, evaluate


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dino, clip, seg and prompts."""
    folder = tmp_path_factory.mktemp("models")
    save_dino(folder / "dino")
    save_clip(folder / "clip")
    save_clipseg(folder / "seg")
    (folder / "p.txt").write_text(PROMPTS)
    return folder


@pytest.fixture(scope="session")
def finished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run."""
    out = tmp_path_factory.mktemp("out") / "run"
    assert evaluate(models, out) == 0
    return out
