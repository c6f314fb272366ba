"""The GPU script on the CPU and on an accelerator (tests/accelerator/), so that it works where a GPU is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, gpu_runs
from benchmarks.gpu_checks import Checked
from benchmarks.gpu_runs import Column, Cost
from tests import accelerator

SHORT = ["--small", "--concepts", "2", "--repeats", "0"]
WORKS = ("plain", "update", "step", "single-pass step", "authors' update", "authors' step", "run, default",
         "run, fast", "authors' run")  # fmt: skip


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_runs, "STEPS", 4)
    monkeypatch.setitem(gpu_runs.RUNS, "run, default", {"refine_updates": 1})


def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> tuple[int, str, Any]:
    """The exit code, what is printed, and the file."""
    code = gpu.main([*SHORT, "--json", str(tmp_path / "gpu.json"), *arguments])
    return code, capsys.readouterr().out, json.loads((tmp_path / "gpu.json").read_text())


def test_the_small_version_on_the_cpu(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, printed, told = run(capsys, tmp_path, "--device", "cpu", "--checks", "float32")
    assert code == 0
    for quantity in ("SD 1.5, maps", "SD 1.5, gradient", "SDXL, exact step", "SDXL, single pass", "LoRA formats ("):
        assert f"| float32 | {quantity}" in printed
    for name in ("SD 1.5", "SDXL"):
        (column,) = told["models"][name]
        assert tuple(sorted(column["costs"])) == tuple(sorted(WORKS))
        assert all(cost["seconds"] > 0 and not cost["failed"] for cost in column["costs"].values())
        assert column["costs"]["run, default"]["updates"] >= 1
        assert column["costs"]["run, fast"]["updates"] == 0
    assert printed.count("| | 2 LoRAs |") == 2
    assert "small: the numbers mean nothing" in printed


@accelerator.needs_accelerator
def test_what_does_not_fit_is_said_and_the_rest_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an accelerator, which counts its memory; the authors' way needs the most."""
    monkeypatch.setattr(gpu, "format_checks", lambda *_: [])  # tests/lora/test_devices.py has them all
    arguments = ("--device", accelerator.NAME, "--models", "SD 1.5")
    with accelerator.without_float64():
        code, printed, told = run(capsys, tmp_path, "--checks", "float16", *arguments)
    assert code == 0, printed
    (whole,) = told["models"]["SD 1.5"]
    assert not any(cost["failed"] for cost in whole["costs"].values())
    weights, need = whole["weights"], {name: cost["gigabytes"] for name, cost in whole["costs"].items()}
    assert need["authors' update"] > 1.5 * need["update"] > 1.5 * need["plain"] > 0
    monkeypatch.setattr(gpu_runs, "ALWAYS", ("plain",))
    monkeypatch.delitem(gpu_runs.RUNS, "run, default")
    with accelerator.limited(int(1e9 * (2 * weights + (need["update"] + need["authors' update"]) / 2))):
        code, printed, told = run(capsys, tmp_path, "--checks", *arguments)
    costs = told["models"]["SD 1.5"][0]["costs"]
    assert code == 0
    assert costs["authors' update"]["failed"] == costs["authors' run"]["failed"] == "out of memory"
    assert all(costs[name]["seconds"] for name in ("plain", "run, fast"))
    assert "| authors' update | out of memory |" in printed


def test_a_wrong_result_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: str) -> Any:
        yield Checked("SD 1.5, maps", "float32", float("nan"))
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(gpu, "engine_checks", broken)
    monkeypatch.setattr(gpu, "format_checks", lambda *_: [Checked("LoRA oft on linear", "float32", 0.5)])
    monkeypatch.setattr(gpu, "column", lambda bench, repeats, told: Column(2, None, {"plain": Cost(1.0)}))
    code, printed, told = run(capsys, tmp_path, "--device", "cpu", "--checks", "float32")
    assert code == 1
    for text in ("broken: RuntimeError: no such kernel", "SD 1.5, maps: error nan", "LoRA oft on linear: error 0.5"):
        assert f"| float32 | **failed** | {text} |" in printed
    assert "| plain | 1.000 s |" in printed
    assert len(told["checks"][0]["failed"]) == 3


def test_columns_for_which_no_time_is_left_are_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "column", lambda bench, *_: Column(len(bench.plan.concepts), None, {"plain": Cost(1.0)}))
    arguments = ("--device", "cpu", "--checks", "--minutes", "0", "--concepts", "2", "1", "--models", "SD 1.5")
    code, _, told = run(capsys, tmp_path, *arguments)
    assert code == 0
    assert [column["concepts"] for column in told["models"]["SD 1.5"]] == [2]


def test_ratios_are_to_as_many_plain_steps() -> None:
    costs = {"plain": Cost(2.0), "step": Cost(3.0), "run, default": Cost(12.0), "update": Cost(failed="out of memory")}
    column = Column(2, None, costs)
    assert column.ratio("step") == 1.5
    assert column.ratio("run, default") == 12.0 / (2.0 * gpu_runs.STEPS)
    assert column.ratio("update") is None
    assert gpu.table([column]).splitlines()[2:] == [
        "| plain | 2.000 s |", "| step | 3.000 s, 1.50x |", "| run, default | 12.0 s, 1.50x |",
        "| update | out of memory |",
    ]  # fmt: skip
