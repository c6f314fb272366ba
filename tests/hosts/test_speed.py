"""The speed benchmark: what it calls the authors' way computes what ours computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.authors import AuthorsWay
from benchmarks.speed import WORKS, measure, print_table, updates_of, works
from benchmarks.unets import Bench
from clora.engine.composer import Composer
from clora.settings import Settings
from tests.hosts.tiny import tiny_sd


@pytest.fixture
def bench() -> Bench:
    torch.manual_seed(0)
    return Bench(tiny_sd().unet.requires_grad_(False), 2, 256, False)


def composed_update(bench: Bench) -> torch.Tensor:
    """Our gradient over the maps of both halves, which is what the authors take."""
    composer = Composer(bench.unet, Settings(maps="both"), 50)
    x = bench.latent
    with bench.loras.installed(), composer.installed():
        with torch.no_grad():
            composer.probe.survey((x.shape[-2], x.shape[-1]), lambda: bench.predict(x, bench.rows[:1]))
        return composer.update.gradient(x, [bench.plan], bench).value


def test_the_authors_way_gives_the_same_gradient(bench: Bench) -> None:
    ours = composed_update(bench)
    theirs = AuthorsWay(bench).update()
    assert ours.abs().max() > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_every_work_runs_and_leaves_no_hook(bench: Bench) -> None:
    for work in works(bench).values():
        assert torch.isfinite(work()).all()
    assert not any(module._forward_hooks for module in bench.unet.modules())


def test_the_table(bench: Bench, capsys: Any) -> None:
    measured = measure(bench, 1, "cpu")
    assert set(measured.seconds) == set(WORKS)
    ratios = measured.ratios({20: 17, 50: 40})
    of = measured.seconds
    assert updates_of(50) == 25 + 3 * 20
    assert ratios["run of 50 steps"] == pytest.approx((50 * of["step"] + 85 * of["update"]) / (50 * of["plain"]))
    fast = (20 * of["single-pass step"] + 17 * of["update"]) / (20 * of["plain"])
    assert ratios["run of 20 steps, early end, single-pass"] == pytest.approx(fast)
    assert ratios["plan of 20 steps"] == pytest.approx(of["plan"] / (20 * of["plain"]))
    print_table([{"concepts": 2, "ratios": ratios, "memory": {"step": 0.5}}])
    printed = capsys.readouterr().out
    assert "| authors' run of 50 steps |" in printed
    assert "| GB, step | 0.50 |" in printed
