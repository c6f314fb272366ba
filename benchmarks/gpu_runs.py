"""Time and peak memory of steps, updates and whole runs on one device, each by itself, whatever fails."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from benchmarks.speed import makers, updates_of
from benchmarks.unets import Bench
from clora.engine.composer import Composer, Updated
from clora.guidance.classifier_free import guide
from clora.models.memory import give_back, is_out_of_memory, peak_bytes, reset_peak
from clora.settings import Settings

STEPS = 20
ALWAYS = ("plain", "update", "step", "single-pass step")
AUTHORS = ("authors' update", "authors' step")
RUNS: dict[str, dict[str, Any]] = {"run, default": {}, "run, fast": {"preset": "fast"}}


@dataclass
class Cost:
    """Seconds of one kind of work and its peak memory in GB above what was there before; or why it failed.

    `updates` counts those of a whole run.
    """

    seconds: float | None = None
    gigabytes: float | None = None
    failed: str = ""
    updates: int | None = None


@dataclass
class Column:
    """The costs of all kinds of work for one number of LoRAs. `weights` are GB."""

    concepts: int
    weights: float | None
    costs: dict[str, Cost] = field(default_factory=dict)

    def ratio(self, name: str) -> float | None:
        """To a plain step, or for runs to as many plain steps."""
        plain, own = self.costs["plain"].seconds, self.costs[name].seconds
        if plain is None or own is None:
            return None
        return own / (plain * STEPS if name in RUNS or name == "authors' run" else plain)

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        costs = {name: {**asdict(cost), "ratio": self.ratio(name)} for name, cost in self.costs.items()}
        return {"concepts": self.concepts, "weights": self.weights, "costs": costs}


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    wait = getattr(getattr(torch, device.type, None), "synchronize", None)
    if wait is not None and device.type != "cpu":
        wait()


def reason(error: BaseException) -> str:
    """A failure in a few words."""
    if is_out_of_memory(error) or "Memory runs out" in str(error):
        return "out of memory"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def cost_of(make: Callable[[], Callable[[], Any]], device: torch.device, repeats: int) -> Cost:
    """Make a kind of work ready, run it once for its memory, then `repeats` times (0: none) for the median time."""
    give_back()
    try:
        work = make()
        synchronize(device)
        reset_peak(device)
        before = peak_bytes(device)
        times = []
        for number in range(repeats + 1):
            start = time.perf_counter()
            work()
            synchronize(device)
            if number or not repeats:  # the first one chooses kernels and fills caches
                times.append(time.perf_counter() - start)
        peak = peak_bytes(device)
        memory = None if peak is None or before is None else (peak - before) / 1e9
        return Cost(statistics.median(times), memory)
    except Exception as error:
        failed = reason(error)
    give_back()  # out here, so that the failed attempt's tensors are gone
    return Cost(failed=failed)


def sampled(bench: Bench, settings: Settings) -> int:
    """One run of `STEPS` steps of DDIM with guidance 7.5; gives the number of its updates."""
    updates: list[Updated] = []
    composer = Composer(
        bench.unet, settings, STEPS, loras=bench.loras,
        observer=lambda event: updates.append(event) if isinstance(event, Updated) else None,
    )  # fmt: skip
    levels = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0).tolist()[:: -1000 // STEPS]
    latent = bench.latent
    with torch.no_grad(), bench.loras.installed(), composer.installed():
        for index, (now, after) in enumerate(zip(levels, [*levels[1:], 1.0], strict=True)):
            step = composer.step(index, latent, [bench.plan], bench)
            assert step.uncond is not None
            noise = guide(step.uncond, step.cond, 7.5)
            clean = (step.latent - (1 - now) ** 0.5 * noise) / now**0.5
            latent = after**0.5 * clean + (1 - after) ** 0.5 * noise
    return len(updates)


def column(bench: Bench, repeats: int, told: Callable[[str, Cost], None]) -> Column:
    """Everything for one number of LoRAs. The authors' way is run for two LoRAs only: it is there to compare."""
    concepts, device = len(bench.plan.concepts), bench.latent.device
    weights = sum(p.numel() * p.element_size() for p in bench.unet.parameters()) / 1e9
    found, ready = Column(concepts, weights), makers(bench)

    def add(name: str, cost: Cost) -> None:
        found.costs[name] = cost
        told(name, cost)

    for name in (*ALWAYS, *(AUTHORS if concepts == 2 else ())):
        add(name, cost_of(ready[name], device, repeats))
    for name, values in RUNS.items():
        made: list[int] = []
        cost = cost_of(lambda v=values, made=made: lambda: made.append(sampled(bench, Settings(**v))), device, 0)  # type: ignore[misc]
        cost.updates = made[-1] if made else None
        add(name, cost)
    if concepts == 2:
        add("authors' run", _authors_run(found.costs))
    return found


def _authors_run(costs: dict[str, Cost]) -> Cost:
    """The authors' whole run, from the times of its parts."""
    update, step = (costs[name] for name in AUTHORS)
    if update.seconds is None or step.seconds is None:
        return Cost(failed=update.failed or step.failed)
    updates = updates_of(STEPS)
    return Cost(STEPS * step.seconds + updates * update.seconds, update.gigabytes, updates=updates)
