"""The comparison of recorded runs: a run is equal to itself, and another setting is told."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import unchanged
from benchmarks.unchanged_drawn import Drawn, hash_of

TINY: dict[str, Any] = {"steps": 2, "width": 64, "height": 64}
RUNS: dict[str, Any] = {
    "same": {**TINY, "settings": {"preset": "fast"}},
    "other": {**TINY, "settings": {"preset": "fast"}},
}


@pytest.mark.usefixtures("one_thread")
def test_equal_runs_are_equal_and_a_changed_setting_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = unchanged.embedded_pipeline()
    monkeypatch.setattr(unchanged, "embedded_pipeline", lambda: pipe)
    monkeypatch.setattr(unchanged, "standin_runs", lambda: iter(()))
    before, draw = tmp_path / "before.json", unchanged.diffusers_runs
    changed = {**RUNS, "other": {**TINY, "settings": {"preset": "fast", "stress": 2.0}}}
    for runs, do, code in ((RUNS, "record", 0), (RUNS, "compare", 0), (changed, "compare", 1)):
        monkeypatch.setattr(unchanged, "diffusers_runs", partial(draw, runs))
        assert unchanged.main([do, str(before)]) == code
    told = capsys.readouterr().out.splitlines()
    assert "2 runs are equal, 0 are different" in told
    assert told[-3] == "equal     diffusers: same"
    assert told[-2].startswith("different diffusers: other: latents, ")
    assert told[-1] == "1 runs are equal, 1 are different"
    facts = json.loads(before.read_text("utf-8"))["runs"]["diffusers: same"]
    assert (facts["shape"], facts["dtype"]) == ([1, 4, 8, 8], "float64")


def test_warnings_are_told_and_missing_runs_differ(capsys: pytest.CaptureFixture[str]) -> None:
    facts = Drawn(torch.ones(1, 4, 2, 2), (), (None,), (), (), ("a",)).facts()
    worded = {**facts, "warnings": ["b"]}
    assert unchanged.compare({"machine": {}, "runs": {"one": facts}}, {"machine": {}, "runs": {"one": worded}})
    assert "warnings were ['a']" in capsys.readouterr().out
    assert unchanged.differences(facts, None) == ["missing now"]
    assert unchanged.differences({**facts, "pictures": ["x"]}, facts) == ["pictures"]


def test_bytes_types_and_shapes_count() -> None:
    zeros = torch.zeros(2, 3)
    others = (zeros.T, zeros.double(), zeros + 1e-30, None)
    assert len({hash_of([one]) for one in (zeros, *others)}) == 5
    turned = torch.arange(6.0).reshape(2, 3).T
    assert hash_of([turned]) == hash_of([turned.contiguous()])


def test_without_a_record_nothing_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unchanged.main(["compare", str(tmp_path / "none.json")]) == 2
    assert "There is no record" in capsys.readouterr().err
