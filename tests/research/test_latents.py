"""The file of the training's latents is read without running code from it."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from research.training.latents import load_latents
from research.world import sample_scene


class Harmful:
    """Unpickled, it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    scenes = [sample_scene(random.Random(seed)) for seed in range(5)]
    latents = torch.randn(5, 4, 2, 2).half()
    torch.save({"scenes": scenes, "latents": latents}, tmp_path / "latents.pt")
    read, values = load_latents(tmp_path / "latents.pt")
    assert read == scenes
    assert torch.equal(values, latents)


def test_code_in_the_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"scenes": [Harmful(tmp_path / "ran")], "latents": torch.zeros(1)}, tmp_path / "latents.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_latents(tmp_path / "latents.pt")
    assert not (tmp_path / "ran").exists()
