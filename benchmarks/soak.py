"""Many jobs in one process of the stand-ins for A1111 and Forge: the memory stays flat and no hook is left.

python -m benchmarks.soak [--jobs 200]
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.standin import installed

from .unchanged_standin import JOBS, KINDS, StandIn

WARM_UP = 0.3
"""Part of the jobs before which memory may grow: every kind of job has run by then."""
MOST_GROWTH = 24.0
"""MB from the warm-up to the end; one kept latent, mask and picture of each job would be more."""
_SMALL = {"width": 64, "height": 64, "steps": 2}


@dataclass(frozen=True)
class State:
    """What the process holds after a job."""

    job: str
    memory: float
    hooks: int
    tensors: int


def resident() -> float:
    """The memory of this process in MB."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError as error:
        raise SystemExit("The soak needs /proc, as on Linux.") from error
    return pages * 4096 / 1e6


def hooks_of(host: StandIn) -> int:
    """Hooks on all modules of both hosts' models."""
    roots: list[nn.Module] = [root for m in host.models.values() for root in (m.unet_module, m.text_module)]
    modules = [module for root in roots for module in root.modules()]
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) + len(one._backward_hooks) for one in modules)


def tensors() -> int:
    """Tensors that Python's collector knows."""
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


def run(jobs: int, seed: int = 0) -> Iterator[State]:
    """The state after each of `jobs` jobs; some of them end in an error or are interrupted."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, installed():
        host = StandIn(Path(folder))
        names = list(JOBS)
        for number in range(jobs):
            name, kind = names[number % len(names)], KINDS[number // len(names) % len(KINDS)]
            fields: dict[str, Any] = {**JOBS[name], **({} if JOBS[name].get("inpaint") else _SMALL)}
            failing = rng.random() < 0.1
            if failing:
                fields["prompt"] = "a <lora:cat:1> cat and a <lora:nobody:1> dog"
            try:
                host.draw(kind, fields)
            except Exception:
                if not failing:
                    raise
            gc.collect()
            yield State(f"{kind}: {name}", resident(), hooks_of(host), tensors())


def main() -> int:
    """Print the state every 20 jobs; returns 1 if memory grows or a hook is left."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    options = parser.parse_args()
    states: list[State] = []
    print("| job | memory (MB) | tensors | hooks |\n|---|---|---|---|")
    for number, state in enumerate(run(options.jobs), start=1):
        states.append(state)
        if number % 20 == 0 or number == options.jobs:
            print(f"| {number} | {state.memory:.0f} | {state.tensors} | {state.hooks} |", flush=True)
    warm = states[int(WARM_UP * len(states)) :]
    growth, hooks = warm[-1].memory - warm[0].memory, max(state.hooks for state in states)
    print(f"\n{len(states)} jobs: {growth:+.1f} MB after the warm-up, at most {hooks} hooks left")
    return 1 if growth > MOST_GROWTH or hooks else 0


if __name__ == "__main__":
    sys.exit(main())
