"""Time and memory of composing, ours and the authors' way: python -m benchmarks.speed [--json F] [--quick].

The SD 1.5 (or SDXL) UNet with random weights and random LoRAs of rank 8 on its attention layers. Everything is
measured interleaved in one process and told as a ratio to a plain guidance step (two rows, no LoRA); memory is the peak
above the weights, on a CPU from fresh processes. The authors' way is `benchmarks/authors.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clora.composer import Composer
from clora.schedule import schedule
from clora.settings import Settings

from .authors import AuthorsWay
from .unets import Bench, new_unet

WORKS = ("plain", "update", "step", "authors update", "authors step")
STEPS = 50  # of a whole run


@dataclass
class Measured:
    """Seconds of each kind of work for one number of LoRAs."""

    concepts: int
    seconds: dict[str, float]

    def ratios(self) -> dict[str, float]:
        """Relative to a plain step, and whole runs relative to a plain run."""
        plain = self.seconds["plain"]
        found = {name: value / plain for name, value in self.seconds.items() if name != "plain"}
        found["run"] = self._run("") / (STEPS * plain)
        found["authors run"] = self._run("authors ") / (STEPS * plain)
        return found

    def _run(self, who: str) -> float:
        """Seconds of a whole run with the paper's schedule, which is the default one."""
        settings = Settings()
        plan = schedule(settings, STEPS)
        updates = sum(plan.updates(step, settings.refine_updates) for step in range(STEPS))
        return STEPS * self.seconds[f"{who}step"] + updates * self.seconds[f"{who}update"]


def works(bench: Bench, settings: Settings) -> dict[str, Callable[[], Any]]:
    """Each kind of work as a function."""
    composer = Composer(bench.unet, settings, STEPS)
    plans = [bench.plan]
    x = bench.latent

    def update() -> Tensor:
        with bench.loras.installed(), composer.installed():
            return composer.update.gradient(x, plans, bench.denoiser).value

    def step() -> Tensor:
        with bench.loras.installed(), composer.installed():
            return composer.predict(0, x, plans, bench.denoiser).cond

    with torch.no_grad(), bench.loras.installed(), composer.installed():
        composer.taps.survey((x.shape[-2], x.shape[-1]), lambda: bench.denoiser.predict(x, bench.rows[:1]))
    authors = AuthorsWay(bench)
    return {
        "plain": bench.plain, "update": update, "step": step, "authors update": authors.update,
        "authors step": authors.step,
    }  # fmt: skip


def measure(bench: Bench, repeats: int, device: str) -> Measured:
    """Medians over interleaved repeats, after one round that is thrown away."""
    found = works(bench, Settings())
    times: dict[str, list[float]] = {name: [] for name in found}
    for number in range(repeats + 1):
        for name, work in found.items():
            start = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            if number:
                times[name].append(time.perf_counter() - start)
    return Measured(len(bench.plan.group_tokens), {name: statistics.median(all_) for name, all_ in times.items()})


def peak_memory(args: argparse.Namespace, concepts: int, work: str) -> float:
    """Peak GB above the weights for one kind of work: in a fresh process on a CPU, from the allocator on CUDA."""
    if args.device == "cuda":
        bench = Bench(new_unet(args.sdxl, args.device), concepts, args.size, args.sdxl)
        found = works(bench, Settings())[work]
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        found()
        return (torch.cuda.max_memory_allocated() - before) / 1e9
    command = [sys.executable, "-m", "benchmarks.speed", "--peak", work, "--concepts", str(concepts)]
    command += ["--size", str(args.size), *(["--sdxl"] if args.sdxl else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def run_peak(args: argparse.Namespace) -> None:
    """The fresh process: print the growth of the peak resident memory."""
    bench = Bench(new_unet(args.sdxl, args.device), args.concepts[0], args.size, args.sdxl)
    found = works(bench, Settings())[args.peak]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far, and the parent's, which is inherited
    before = _resident("VmRSS")
    found()
    print((_resident("VmHWM") - before) / 1e6)


def _resident(name: str) -> int:
    """A memory figure of this process in kB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


def print_table(rows: list[dict[str, Any]]) -> None:
    """One line for each quantity, one column for each number of LoRAs."""
    names = list(rows[0]["ratios"])
    print("| relative to plain | " + " | ".join(f"{row['concepts']} LoRAs" for row in rows) + " |")
    print("|---" * (len(rows) + 1) + "|")
    for name in names:
        print(f"| {name} | " + " | ".join(f"{row['ratios'][name]:.1f}" for row in rows) + " |")
    for name in rows[0]["memory"]:
        print(f"| GB, {name} | " + " | ".join(f"{row['memory'][name]:.2f}" for row in rows) + " |")


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--quick", action="store_true", help="two LoRAs, two repeats, no memory")
    parser.add_argument("--sdxl", action="store_true", help="the SDXL UNet")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--concepts", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of LoRAs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", choices=WORKS, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.peak:
        run_peak(args)
        return 0
    counts = [2] if args.quick else args.concepts
    unet = new_unet(args.sdxl, args.device)
    rows = []
    for concepts in counts:
        measured = measure(Bench(unet, concepts, args.size, args.sdxl), 2 if args.quick else args.repeats, args.device)
        memory = {} if args.quick else {work: peak_memory(args, concepts, work) for work in WORKS}
        rows.append({"concepts": concepts, "ratios": measured.ratios(), "memory": memory, "seconds": measured.seconds})
        print(f"{concepts} LoRAs: plain step {measured.seconds['plain']:.2f} s", file=sys.stderr)
    print_table(rows)
    if args.json:
        args.json.write_text(json.dumps({"size": args.size, "sdxl": args.sdxl, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
