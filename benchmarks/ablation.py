"""How much time each change to the update saves, and where a step's time goes: python -m benchmarks.ablation.

The SD 1.5 UNet with random weights and two LoRAs, as in benchmarks/speed.py. All times are relative to a plain step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.authors import AuthorsWay
from benchmarks.speed import works
from benchmarks.unets import Bench, new_unet
from clora.attention.maps import average_maps, latent_rows, needed_columns
from clora.conditioning.plan import rows_of
from clora.engine.composer import Composer
from clora.guidance.update import contrast_losses
from clora.settings import Settings

PARTS = {
    "self-attention": ("attn1",), "cross-attention": ("attn2",), "feed-forward": ("ff",),
    "residual blocks": ("resnets",),
}  # fmt: skip


def update(bench: Bench, *, stop: bool, both: bool) -> Callable[[], Tensor]:
    """The gradient: with or without stopping at the last map, by both halves of the rows or the conditional ones."""
    composer = Composer(bench.unet, Settings(), 50)
    x, plans = bench.latent, [bench.plan]
    rows, columns = rows_of(plans, (True, False) if both else (True,)), needed_columns(plans)
    size = (x.shape[-2], x.shape[-1])

    def run() -> Tensor:
        with bench.loras.installed(), composer.installed():
            with torch.no_grad():
                composer.probe.survey(size, lambda: bench.predict(x, rows[:1]))
            with bench.gradients():
                leaf = x.clone().requires_grad_(True)
                maps, _, _ = composer.probe.collect(
                    size, columns, lambda: bench.predict(latent_rows(leaf, rows), rows), stop=stop
                )
                losses, _ = contrast_losses(average_maps(maps, rows, columns), plans, 0.5)
                (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        return gradient

    return run


def stopped_part(bench: Bench) -> float:
    """The part of a forward's time before the last map."""
    composer = Composer(bench.unet, Settings(), 50)
    x, rows = bench.latent, bench.rows[:1]
    size = (x.shape[-2], x.shape[-1])

    def forward(stop: bool) -> float:
        start = time.perf_counter()
        composer.probe.collect(size, (2,), lambda: bench.predict(x, rows), stop=stop)
        return time.perf_counter() - start

    with torch.no_grad(), bench.loras.installed(), composer.installed():
        composer.probe.survey(size, lambda: bench.predict(x, rows))
        return statistics.median(forward(True) / forward(False) for _ in range(5))


@contextmanager
def timed(unet: nn.Module, seconds: dict[str, float]) -> Iterator[None]:
    """Adds the seconds of each kind of block to `seconds` while the UNet runs."""
    handles: list[Any] = []
    begun: dict[nn.Module, float] = {}

    def begin(module: nn.Module, *_: Any) -> None:
        begun[module] = time.perf_counter()

    def end(part: str) -> Callable[..., None]:
        def hook(module: nn.Module, *_: Any) -> None:
            seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - begun[module]

        return hook

    for name, module in unet.named_modules():
        before, last = ("", *name.split("."))[-2:]
        for part, names in PARTS.items():
            if last in names or (before in names and last.isdigit()):
                handles += [
                    module.register_forward_pre_hook(begin, prepend=True),
                    module.register_forward_hook(end(part)),
                ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def changes(bench: Bench, repeats: int) -> dict[str, float]:
    """Seconds of a plain step, of the authors' update and of ours with one change after the other."""
    found: dict[str, Callable[[], Any]] = {
        "plain": bench.plain,
        "authors' update": AuthorsWay(bench).update,
        "rows in one batch, no attention kept": update(bench, stop=False, both=True),
        "stopped at the last map": update(bench, stop=True, both=True),
        "conditional rows only": update(bench, stop=True, both=False),
    }
    times: dict[str, list[float]] = {name: [] for name in found}
    for number in range(repeats + 1):
        for name, work in found.items():
            start = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(every) for name, every in times.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(arguments)
    bench = Bench(new_unet(False, "cpu"), 2, args.size, False)
    seconds = changes(bench, args.repeats)
    print(f"{stopped_part(bench):.2f} of a forward lie before the last map.\n")
    print("| update | relative to a plain step |\n|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value / seconds['plain']:.1f} |")
    of = works(bench)
    columns = ("plain", "step", "single-pass step")
    parts: dict[str, dict[str, float]] = {}
    for name in columns:
        parts[name] = {}
        with timed(bench.unet, parts[name]):
            of[name]()
    print("\n| seconds of a step | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for part in PARTS:
        print(f"| {part} | " + " | ".join(f"{parts[name].get(part, 0.0):.2f}" for name in columns) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
