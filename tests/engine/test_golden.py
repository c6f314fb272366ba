"""Every recorded run of the authors' code, recomputed through the engine (needs the folder of recorded runs)."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.golden import Errors, GoldenCase, load_pipeline, lora_files, main, prepare_case, recompute
from clora.attention.probe import AttentionProbe
from clora.hosts.diffusers import DiffusersDenoiser
from clora.lora.library import LoraLibrary
from clora.lora.rows import RowLoras
from clora.models.denoiser import Row
from tests.conftest import GOLDEN

CASES = sorted(path.stem for path in (GOLDEN / "cases").glob("*.json")) or ["absent"]
# Even in float64 twenty steps of gradient ascent multiply the last digits; how much depends on the processor.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-5}


@lru_cache(maxsize=2)
def pipeline(folder: Path, dtype: torch.dtype) -> Any:
    return load_pipeline(folder, dtype)


@pytest.mark.parametrize("name", CASES)
def test_case(golden: Path, name: str) -> None:
    case = GoldenCase(golden, name)
    errors = recompute(pipeline(golden, case.dtype), case, LoraLibrary(lora_files(golden)))
    counted = {"masks (places)", "token ids (count)"}
    assert all(errors.worst.get(quantity, 0) == 0 for quantity in counted)
    assert {q: e for q, e in errors.worst.items() if q not in counted and e > TOLERANCE[case.dtype]} == {}
    compared = {"attention_maps", "loss", "grad", "latent_after", "noise_preds", "noise_pred", "latent_out"}
    assert compared <= set(errors.worst)


def test_single_layers_probabilities(golden: Path) -> None:
    """Raw softmax probabilities of every tapped layer, conditional and unconditional."""
    files = {name: load_file(golden / "cases" / f"{name}.safetensors") for name in CASES}
    names = [name for name, tensors in files.items() if any("layer_probs" in key for key in tensors)]
    assert names
    case = GoldenCase(golden, names[0])
    pipe = pipeline(golden, case.dtype)
    prepared = prepare_case(pipe, case, LoraLibrary(lora_files(golden)), Errors())
    recorded = {k.rsplit("/", 1)[1]: v for k, v in case.recorded.items() if "layer_probs/prompt1" in k}
    loras, probe = RowLoras("unet", pipe.unet, prepared.sets), AttentionProbe(pipe.unet)
    pipe.scheduler.set_timesteps(case.sampling().steps)
    denoiser = DiffusersDenoiser(pipe, loras, prepared, case.sampling()).at(0, pipe.scheduler.timesteps[0])
    rows = (Row(0, 1, False), Row(0, 1, True))
    latent = case.recorded["latents_init"].repeat(2, 1, 1, 1)
    with torch.no_grad(), loras.installed(), probe.installed():
        _, _, layers = probe.collect(
            latent.shape[-2:], range(77), lambda: denoiser.predict(latent, rows), keep_layers=True
        )
    assert len(layers) == len(recorded) == 5
    for ours, key in zip(layers.values(), sorted(recorded), strict=True):
        torch.testing.assert_close(ours.flatten(0, 1), recorded[key], rtol=1e-9, atol=1e-12)


def test_both_lora_layouts_are_the_same(golden: Path) -> None:
    """The benchmark's table from kohya and from peft files of the same weights."""
    from clora.lora.file import read_lora

    names = {path.name.split(".")[0] for path in (golden / "loras").glob("*.safetensors")}
    for name in names:
        kohya, peft = (read_lora(golden / "loras" / f"{name}.{kind}.safetensors") for kind in ("kohya", "peft"))
        assert len(kohya.tensors) == len(peft.tensors) > 0


def test_command_prints_the_worst_errors(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any folder with the same layout works, whatever its cases are called."""
    (tmp_path / "cases").mkdir()
    for part in ("model", "loras"):
        (tmp_path / part).symlink_to(golden / part)
    for kind in ("json", "safetensors"):
        smallest = golden / "cases" / f"step256x192_2lora_cfg_f64.{kind}"
        (tmp_path / "cases" / f"another name.{kind}").symlink_to(smallest)
    assert main([str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["cases"]) == {"another name"}
    assert 0 < printed["worst"]["grad"] < 1e-6


def test_an_empty_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no cases" in capsys.readouterr().err
