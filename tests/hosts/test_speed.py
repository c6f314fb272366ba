"""The speed benchmark: what it calls the authors' way computes what ours computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.authors import AuthorsWay
from benchmarks.speed import STEPS, measure, print_table, works
from benchmarks.unets import Bench
from clora.settings import Settings
from tests.hosts.tiny import tiny_sd


@pytest.fixture
def bench() -> Bench:
    torch.manual_seed(0)
    return Bench(tiny_sd().unet.requires_grad_(False), 2, 256, False)


def test_the_authors_way_gives_the_same_gradient(bench: Bench) -> None:
    ours = works(bench, Settings(maps="both"))["update"]()
    theirs = AuthorsWay(bench).update()
    assert ours.abs().max() > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_every_work_runs_and_leaves_no_hook(bench: Bench) -> None:
    for work in works(bench, Settings()).values():
        assert torch.isfinite(work()).all()
    assert not any(module._forward_hooks for module in bench.unet.modules())


def test_the_table(bench: Bench, capsys: Any) -> None:
    measured = measure(bench, 1, "cpu")
    ratios = measured.ratios()
    plain, step = measured.seconds["plain"], measured.seconds["step"]
    updates = STEPS // 2 + 3 * 20
    expected = (STEPS * step + updates * measured.seconds["update"]) / (STEPS * plain)
    assert ratios["run"] == pytest.approx(expected)
    print_table([{"concepts": 2, "ratios": ratios, "memory": {"step": 0.5}}])
    printed = capsys.readouterr().out
    assert "| run |" in printed
    assert "| GB, step | 0.50 |" in printed
