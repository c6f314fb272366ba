"""The file of the training's latents is read without running code from it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from research.characters.latents import load_data


class Harmful:
    """Unpickled, it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_code_in_the_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "latents-0.pt"
    torch.save({"scenes": Harmful(tmp_path / "ran"), "silhouettes": b"", "latents": torch.zeros(1)}, path)
    with pytest.raises(pickle.UnpicklingError):
        load_data(path)
    assert not (tmp_path / "ran").exists()
