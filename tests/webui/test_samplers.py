"""Which evaluations of a sampler are steps: of one order, of two, and adaptive ones, which go back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from clora.hosts.protocol import SamplerPosition
from tests.webui.standin_host import FEW, KINDS, PROMPT, Host, near

EVERY_STEP = {**FEW, "update_until": 1.0, "refine_at": []}


def steps_of(sigmas: list[float], *, second_order: bool = False, adaptive: bool = False, steps: int = 4) -> list[Any]:
    from clora.webui.sampling_pass import Progress

    progress, first = Progress(), sigmas[0]
    return [
        progress.next(sigma, SamplerPosition(number, steps, second_order, adaptive, 1.0 - sigma / first))
        for number, sigma in enumerate(sigmas)
    ]


def test_every_lower_noise_level_is_a_step() -> None:
    assert steps_of([10, 8, 8.0000001, 9, 5, 2]) == [
        (0, True), (1, True), (1, False), (1, False), (2, True), (3, True),
    ]  # fmt: skip


def test_of_two_evaluations_the_first_is_a_step() -> None:
    assert steps_of([10, 8, 8, 5, 5, 2], second_order=True) == [
        (0, True), (0, False), (1, True), (1, False), (2, True), (2, False),
    ]  # fmt: skip


def test_adaptive_steps_are_parts_of_the_noise_that_is_gone() -> None:
    """The sampler takes a step back at the fourth evaluation, goes on in small ones, and leaps at the end."""
    sigmas = [10, 9, 7, 9, 8, 7.2, 4.9, 4.7, 1, 0.1, 0]
    assert steps_of(sigmas, adaptive=True) == [
        (0, True), (0, False), (1, True), (1, False), (1, False), (1, False), (2, True), (2, False), (3, True),
        (3, False), (3, True),
    ]  # fmt: skip


def evaluations_with_updates(host: Host, **fields: Any) -> list[int]:
    """The number of the evaluation of each update of a job."""
    now, seen = [0], list[int]()

    def told(text: str) -> None:
        if text.startswith("CLoRA: "):
            seen.append(now[0])

    def watch(number: int, x: torch.Tensor) -> None:
        now[0] = number

    host.shared.state.on_told = told
    host.draw(clora=EVERY_STEP, watch=watch, **fields)
    host.shared.state.on_told = None
    return seen


@pytest.mark.parametrize(("sampler", "updates"), [("Euler", [0, 1, 2]), ("Heun", [0, 2, 4])])
def test_updates_come_at_the_latent_that_the_sampler_goes_on_from(host: Host, sampler: str, updates: list[int]) -> None:
    assert evaluations_with_updates(host, sampler_name=sampler, steps=3) == updates


ADAPTIVE: dict[str, Any] = {"sampler_name": "DPM adaptive", "steps": 6}


def test_an_adaptive_sampler_updates_once_for_each_part_of_the_noise(host: Host) -> None:
    levels: list[float] = []
    timestep = host.hook().timestep

    def watched(self: Any, sigma: torch.Tensor) -> float:
        levels.append(timestep(self, sigma))
        return levels[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host.hook(), "timestep", watched)
        updates = evaluations_with_updates(host, **ADAPTIVE)
    assert len(levels) > 2 * ADAPTIVE["steps"]
    assert any(after > before for before, after in pairwise(levels)), "it never took a step back"
    parts = [int((1 - level / levels[0]) * ADAPTIVE["steps"]) for level in levels]
    reached = [number for number, part in enumerate(parts) if part > max(parts[:number], default=-1)]
    assert updates == [number for number in reached if parts[number] <= ADAPTIVE["steps"]]
    assert len(updates) <= ADAPTIVE["steps"] + 1


def test_an_adaptive_merge_is_the_hosts_own(host: Host) -> None:
    ours, theirs = host.draw(clora={"method": "merge"}, **ADAPTIVE), host.draw(**ADAPTIVE)
    assert near(ours.latent, theirs.latent)


@pytest.mark.parametrize("preset", ["balanced", "paper"])
def test_an_adaptive_picture_is_one_in_both_hosts(both: Host, preset: str) -> None:
    found = []
    for kind in KINDS:
        both.use(kind)
        job = both.draw(PROMPT, {**FEW, "preset": preset}, **ADAPTIVE)
        assert both.traces(job.p)["hooks"] == 0
        found.append(job.latent)
    assert all(near(found[0], other, 1e-4) for other in found[1:])
    assert torch.isfinite(found[0]).all()
