"""Every recorded run of the authors' code, recomputed through the engine.

The runs in tests/data/golden are always checked; those of a second folder (CLORA_GOLDEN) where there is one.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.golden import RECORDED, Errors, GoldenCase, load_pipeline, lora_files, main, prepare_case, recompute
from clora.attention.probe import AttentionProbe
from clora.hosts.diffusers import DiffusersDenoiser
from clora.lora.library import LoraLibrary
from clora.lora.rows import RowLoras
from clora.models.denoiser import Row
from tests.conftest import GOLDEN

FOLDERS = [folder for folder in (RECORDED, GOLDEN) if (folder / "cases").is_dir()]
CASES = [
    pytest.param(folder, path.stem, id=f"{path.stem}{'' if folder == RECORDED else '-elsewhere'}")
    for folder in FOLDERS
    for path in sorted((folder / "cases").glob("*.json"))
]
# Gradient ascent multiplies the last digits, more in longer runs; how much depends on the processor.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-5}
# Short runs end near the last digit of diffusers' schedulers, which keep their noise levels in float32.
SHORT_RUNS_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}


@lru_cache(maxsize=4)
def pipeline(folder: Path, dtype: torch.dtype) -> Any:
    return load_pipeline(folder, dtype)


def test_the_repository_has_recorded_runs() -> None:
    assert RECORDED in FOLDERS


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_case(folder: Path, name: str) -> None:
    case = GoldenCase(folder, name)
    tolerance = (SHORT_RUNS_TOLERANCE if folder == RECORDED else TOLERANCE)[case.dtype]
    errors = recompute(pipeline(folder, case.dtype), case, LoraLibrary(lora_files(folder)))
    counted = {"masks (places)", "token ids (count)"}
    assert all(errors.worst.get(quantity, 0) == 0 for quantity in counted)
    assert {q: e for q, e in errors.worst.items() if q not in counted and e > tolerance} == {}
    compared = {"attention_maps", "loss", "grad", "latent_after", "noise_preds", "noise_pred", "latent_out"}
    assert compared <= set(errors.worst)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "repository" if folder == RECORDED else "elsewhere")
def test_single_layers_probabilities(folder: Path) -> None:
    """Raw softmax probabilities of every tapped layer, conditional and unconditional."""
    files = {path.stem: load_file(path) for path in sorted((folder / "cases").glob("*.safetensors"))}
    names = [name for name, tensors in files.items() if any("layer_probs" in key for key in tensors)]
    assert names
    case = GoldenCase(folder, names[0])
    pipe = pipeline(folder, case.dtype)
    prepared = prepare_case(pipe, case, LoraLibrary(lora_files(folder)), Errors())
    recorded = {key.rsplit("/", 1)[1]: value for key, value in case.recorded.items() if "layer_probs" in key}
    variant = int(next(key for key in case.recorded if "layer_probs" in key).split("/prompt")[1].split("/")[0])
    loras, probe = RowLoras("unet", pipe.unet, prepared.sets), AttentionProbe(pipe.unet)
    pipe.scheduler.set_timesteps(case.sampling().steps)
    denoiser = DiffusersDenoiser(pipe, loras, prepared, case.sampling()).at(0, pipe.scheduler.timesteps[0])
    rows = (Row(0, variant, False), Row(0, variant, True))
    latent = case.recorded["latents_init"].repeat(2, 1, 1, 1)
    with torch.no_grad(), loras.installed(), probe.installed():
        _, _, layers = probe.collect(
            latent.shape[-2:], range(77), lambda: denoiser.predict(latent, rows), keep_layers=True
        )
    assert len(layers) == len(recorded) == 5
    for ours, key in zip(layers.values(), sorted(recorded), strict=True):
        kept = recorded[key].shape[-1]
        torch.testing.assert_close(ours.flatten(0, 1)[..., :kept], recorded[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "repository" if folder == RECORDED else "elsewhere")
def test_both_lora_layouts_have_as_many_layers(folder: Path) -> None:
    from clora.lora.file import read_lora

    names = {path.name.split(".")[0] for path in (folder / "loras").glob("*.safetensors")}
    assert names
    for name in names:
        kohya, peft = (read_lora(folder / "loras" / f"{name}.{kind}.safetensors") for kind in ("kohya", "peft"))
        assert len(kohya.tensors) == len(peft.tensors) > 0


def test_command_prints_the_worst_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any folder with the same layout works, whatever its cases are called."""
    (tmp_path / "cases").mkdir()
    for part in ("model", "loras"):
        (tmp_path / part).symlink_to(RECORDED / part)
    for kind in ("json", "safetensors"):
        (tmp_path / "cases" / f"another name.{kind}").symlink_to(RECORDED / "cases" / f"step192_2lora_style_f64.{kind}")
    assert main([str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["cases"]) == {"another name"}
    assert 0 < printed["worst"]["grad"] < 1e-9


def test_command_takes_the_repositorys_runs_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr("benchmarks.golden.run_folder", lambda folder, progress: asked.append(folder) or {})
    assert main([]) == 0
    assert asked == [RECORDED]
    assert capsys.readouterr().out.startswith("0 cases")


def test_an_empty_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no cases" in capsys.readouterr().err
