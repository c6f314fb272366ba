"""Time and memory of composing, ours and the authors' way: python -m benchmarks.speed [--json F] [--quick].

The SD 1.5 (or SDXL) UNet with random weights and random LoRAs of rank 8 on its attention layers. All kinds of work are
measured interleaved in one process and printed as ratios to a plain guidance step (two rows, no LoRA). Memory is the
peak above the weights; on a CPU it is measured in new processes. The authors' way is `benchmarks/authors.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.authors import AuthorsWay
from benchmarks.unets import Bench, new_unet
from clora.engine.composer import Composer
from clora.engine.look_ahead import look_ahead
from clora.settings import Settings
from clora.settings.schedule import schedule

WORKS = (
    "plain", "update", "update, 3 rows at once", "update, way down only", "step", "step, shared negative",
    "single-pass step", "plan", "authors' update", "authors' step",
)  # fmt: skip
IN_MEMORY = (
    "plain",
    "update",
    "update, 3 rows at once",
    "step",
    "single-pass step",
    "authors' update",
    "authors' step",
)
Work = Callable[[], Any]


@dataclass
class Measured:
    """Seconds of each kind of work for one number of LoRAs."""

    concepts: int
    seconds: dict[str, float]

    def ratios(self, early: Mapping[int, int] | None = None) -> dict[str, float]:
        """Relative to a plain step, and whole runs relative to a plain run of as many steps.

        `early[steps]`: number of updates of a run whose refine steps end early. Without it, such runs are left out.
        """
        plain = self.seconds["plain"]
        found = {name: value / plain for name, value in self.seconds.items() if name not in ("plain", "plan")}
        found["plan of 20 steps"] = self.seconds["plan"] / (20 * plain)
        found["run of 50 steps"] = self._run(50, "step", "update", updates_of(50))
        found["authors' run of 50 steps"] = self._run(50, "authors' step", "authors' update", updates_of(50))
        found["run of 20 steps"] = self._run(20, "step", "update", updates_of(20))
        if early:
            found["run of 50 steps, early end, shared negative"] = self._run(
                50, "step, shared negative", "update", early[50]
            )
            found["run of 20 steps, early end"] = self._run(20, "step", "update", early[20])
            found["run of 20 steps, early end, single-pass"] = self._run(20, "single-pass step", "update", early[20])
        return found

    def _run(self, steps: int, step: str, update: str, updates: int) -> float:
        of = self.seconds
        return (steps * of[step] + updates * of[update]) / (steps * of["plain"])


def updates_of(steps: int) -> int:
    """Number of updates of a whole run with the paper's schedule."""
    settings = Settings("paper")
    plan = schedule(settings, steps)
    return sum(plan.updates(step, settings.refine_updates) for step in range(steps))


def early_updates(steps: int) -> int:
    """Number of updates of a run with early ends, on the embedded model: with random weights the loss does not fall."""
    from clora.embedded import DEMO_PROMPT, EMBEDDED_GUIDANCE, EMBEDDED_LORAS
    from clora.engine.composer import Updated
    from clora.hosts.diffusers import compose
    from clora.hosts.diffusers.checkpoint import load_pipeline

    seen: list[Any] = []
    compose(
        load_pipeline(None), DEMO_PROMPT, loras=[EMBEDDED_LORAS], steps=steps, seed=0, guidance=EMBEDDED_GUIDANCE,
        settings=Settings(update_until=0.5, refine_at=(0.0, 0.2, 0.4), look_ahead=0.0, own_places=0.0),
        observer=lambda event: seen.append(event) if isinstance(event, Updated) else None,
    )  # fmt: skip
    return len(seen)


def makers(bench: Bench) -> dict[str, Callable[[], Work]]:
    """How each kind of work is made ready."""
    x, plans = bench.latent, [bench.plan]
    size = (x.shape[-2], x.shape[-1])

    def work(do: Callable[[Composer], Tensor], **settings: Any) -> Work:
        values = {"fusion": "exact", "fuse_from": 0.0, **settings}
        composer = Composer(bench.unet, Settings(**values), 50, loras=bench.loras)
        with torch.no_grad(), bench.loras.installed(), composer.installed():
            composer.probe.survey(size, lambda: bench.denoiser.predict(x, bench.rows[:1]))

        def run() -> Tensor:
            with bench.loras.installed(), composer.installed():
                return do(composer)

        return run

    def update(composer: Composer) -> Tensor:
        return composer.update.gradient(x, plans, bench.denoiser).value

    def step(composer: Composer) -> Tensor:
        return composer.predict(0, x, plans, bench.denoiser).cond

    def plan(composer: Composer) -> Tensor:
        reach, count = Settings().look_ahead, schedule(Settings(), 20).look_ahead
        return look_ahead(
            x, plans, bench.denoiser, composer.strategy.forwards, reach=reach, count=count, guidance=7.0
        )[1]  # fmt: skip

    def single_pass() -> Work:
        # A single pass needs the masks of an earlier step. The first call is exact and makes them.
        single = work(step, fusion="single-pass")
        single()
        return single

    return {
        "plain": lambda: bench.plain, "update": lambda: work(update),
        "update, 3 rows at once": lambda: work(update, rows_per_forward=3),
        "update, way down only": lambda: work(update, update_layers="down"),
        "step": lambda: work(step), "step, shared negative": lambda: work(step, shared_uncond=True),
        "single-pass step": single_pass, "plan": lambda: work(plan, fusion="single-pass"),
        "authors' update": lambda: AuthorsWay(bench).update, "authors' step": lambda: AuthorsWay(bench).step,
    }  # fmt: skip


def works(bench: Bench) -> dict[str, Work]:
    """Each kind of work as a function."""
    return {name: make() for name, make in makers(bench).items()}


def measure(bench: Bench, repeats: int, device: str) -> Measured:
    """Medians over interleaved repeats, after one round that is discarded.

    On a CPU it is the CPU time of the process: other programs do not count, and the times of threads are added.
    """
    found = works(bench)
    clock = time.process_time if device == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in found}
    for number in range(repeats + 1):
        for name, work in found.items():
            start = clock()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            if number:
                times[name].append(clock() - start)
    return Measured(len(bench.plan.concepts), {name: statistics.median(all_) for name, all_ in times.items()})


def peak_memory(args: argparse.Namespace, concepts: int, work: str) -> float:
    """Peak GB above the weights for one kind of work: in a new process on a CPU, from the allocator on CUDA."""
    if args.device == "cuda":
        bench = Bench(new_unet(args.sdxl, args.device), concepts, args.sizes[0], args.sdxl)
        found = works(bench)[work]
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        found()
        return (torch.cuda.max_memory_allocated() - before) / 1e9
    command = [sys.executable, "-m", "benchmarks.speed", "--peak", work, "--concepts", str(concepts)]
    command += ["--sizes", str(args.sizes[0]), *(["--sdxl"] if args.sdxl else [])]
    # Freed memory goes back at once; otherwise the free memory in the allocator's arenas would count, too.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return float(output.split()[-1])


def run_peak(args: argparse.Namespace) -> None:
    """In the new process: print by how much the peak resident memory grows."""
    bench = Bench(new_unet(args.sdxl, args.device), args.concepts[0], args.sizes[0], args.sdxl)
    found = works(bench)[args.peak]
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak, which includes the parent's
    before = _resident("VmRSS")
    found()
    print((_resident("VmHWM") - before) / 1e6)


def _resident(name: str) -> int:
    """A memory figure of this process in kB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print one line for each quantity, with one column for each number of LoRAs."""
    names = list(rows[0]["ratios"])
    print("| relative to plain | " + " | ".join(f"{row['concepts']} LoRAs" for row in rows) + " |")
    print("|---" * (len(rows) + 1) + "|")
    for name in names:
        print(f"| {name} | " + " | ".join(f"{row['ratios'][name]:.1f}" for row in rows) + " |")
    for name in rows[0]["memory"]:
        print(f"| GB, {name} | " + " | ".join(f"{row['memory'][name]:.2f}" for row in rows) + " |")


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers to this file, too")
    parser.add_argument("--quick", action="store_true", help="two LoRAs, two repeats, no memory")
    parser.add_argument("--sdxl", action="store_true", help="the SDXL UNet")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[256], help="pixels; memory is measured for the first")
    parser.add_argument("--concepts", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of LoRAs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", choices=WORKS, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.peak:
        run_peak(args)
        return 0
    counts = [2] if args.quick else args.concepts
    # Memory first: later this process holds the memory of the largest work, and new processes need that memory, too.
    memory = {} if args.quick else {n: {work: peak_memory(args, n, work) for work in IN_MEMORY} for n in counts}
    early = None if args.quick else {steps: early_updates(steps) for steps in (20, 50)}
    unet = new_unet(args.sdxl, args.device)
    tables: dict[int, list[dict[str, Any]]] = {}
    for size in args.sizes:
        tables[size] = []
        for concepts in counts:
            measured = measure(Bench(unet, concepts, size, args.sdxl), 2 if args.quick else args.repeats, args.device)
            of_memory = memory.get(concepts, {}) if size == args.sizes[0] else {}
            row = {"concepts": concepts, "ratios": measured.ratios(early), "memory": of_memory}
            tables[size].append({**row, "seconds": measured.seconds})
            print(f"{size} px, {concepts} LoRAs: plain step {measured.seconds['plain']:.2f} s", file=sys.stderr)
            if args.json:
                args.json.write_text(json.dumps({"sdxl": args.sdxl, "early": early, "tables": tables}, indent=1))
        print(f"\n{size} x {size} pixels\n")
        print_table(tables[size])
    if early:
        print(f"\nUpdates with an early end: {early[20]} of {updates_of(20)} in 20 steps, "
              f"{early[50]} of {updates_of(50)} in 50.")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
