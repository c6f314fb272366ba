"""The ablation benchmark: every variant of the update gives the same gradient where it takes the same maps."""

from __future__ import annotations

import torch

from benchmarks.ablation import PARTS, changes, stopped_part, timed, update
from benchmarks.authors import AuthorsWay
from benchmarks.unets import Bench
from tests.hosts.tiny import tiny_sd


def test_the_changes_are_exact() -> None:
    torch.manual_seed(0)
    bench = Bench(tiny_sd().unet.requires_grad_(False), 2, 256, False)
    whole, stopped = (update(bench, stop=stop, both=True)() for stop in (False, True))
    assert whole.abs().max() > 0
    torch.testing.assert_close(whole, stopped)
    theirs = AuthorsWay(bench).update()
    torch.testing.assert_close(whole, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_what_is_measured() -> None:
    bench = Bench(tiny_sd().unet.requires_grad_(False), 2, 256, False)
    assert stopped_part(bench) > 0.0
    assert all(seconds > 0 for seconds in changes(bench, 1).values())
    parts: dict[str, float] = {}
    with timed(bench.unet, parts):
        bench.plain()
    assert set(parts) == set(PARTS)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in bench.unet.modules())
