"""What a GPU computes, how fast, with how much memory: python -m benchmarks.gpu [--json F] [--device D] [--small].

Needs torch, numpy, safetensors and diffusers, no model and no network, and less than ten minutes. First it is checked
whether the device computes what the CPU computes in float64 (benchmarks/gpu_checks.py). Then SD 1.5's UNet at 512 px
and SDXL's at 1024 px, with random weights and LoRAs, are timed: a plain step, an update, an exact step, a single pass,
and whole runs of 20 steps, with 1, 2, 4 and 8 LoRAs; with two LoRAs the authors' way too (benchmarks/authors.py). A
part that fails is named and the rest goes on. Tables are Markdown, for docs/performance.md.

Without a GPU it runs a small version on the CPU, whose numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_checks import DTYPES, Checked, engine_checks, format_checks
from benchmarks.gpu_runs import Column, Cost, column, reason
from benchmarks.unets import Bench, new_unet
from clora import __version__
from clora.models.memory import give_back

MODELS = {"SD 1.5": (False, 512), "SDXL": (True, 1024)}
SMALL_SIZE = 128


def default_device() -> str:
    """The accelerator that torch knows, else the CPU."""
    kinds: dict[str, Callable[[], bool]] = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if hasattr(torch, "xpu"):
        kinds["xpu"] = torch.xpu.is_available
    return next((kind for kind, there in kinds.items() if there()), "cpu")


def machine(device: torch.device) -> str:
    """The device and the versions, for the tables' heading."""
    name = getattr(getattr(torch, device.type, None), "get_device_name", None)
    return (
        f"{name(device) if name else device.type}, torch {torch.__version__}, CLoRA {__version__}, {platform.system()}"
    )


def checks(device: str, dtypes: Sequence[str], told: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """One line for each dtype: worst errors, and what failed."""
    for dtype in dtypes:
        found: list[Checked] = []
        failed: list[str] = []
        for check in (engine_checks, format_checks):
            try:
                found.extend(check(device, dtype))
            except Exception as error:
                failed.append(f"{check.__name__}: {reason(error)}")
        formats = [one for one in found if one.name.startswith("LoRA ")]
        engine = {one.name: one.error for one in found if one not in formats}
        if formats:
            worst = max(formats, key=lambda one: one.error)
            engine[f"LoRA formats ({len(formats)}), worst: {worst.name.removeprefix('LoRA ')}"] = worst.error
        failed += [f"{one.name}: error {one.error:.2g}" for one in found if not one.passed]
        told(f"{dtype}: {'; '.join(failed) or 'passed'}")
        yield {"dtype": dtype, "errors": engine, "failed": failed}


def measured(
    name: str, device: str, dtype: torch.dtype, args: argparse.Namespace, told: Callable[[str], None]
) -> list[Column]:
    """The columns of one model; those for which no time is left are missing."""
    sdxl, size = MODELS[name]
    unet = new_unet(sdxl, device, dtype, small=args.small).requires_grad_(False)
    columns: list[Column] = []
    for concepts in args.concepts:
        if columns and time.monotonic() > args.until:
            told(f"{name}, {_loras(concepts)}: left out, {args.minutes:g} minutes are over")
            continue

        def line(work: str, cost: Cost, concepts: int = concepts) -> None:
            told(f"{name}, {_loras(concepts)}, {work}: {_cell(cost, None)}")

        bench = Bench(unet, concepts, SMALL_SIZE if args.small else size, sdxl)
        columns.append(column(bench, args.repeats, line))
        give_back()
    return sorted(columns, key=lambda one: one.concepts)


def _loras(concepts: int) -> str:
    return f"{concepts} LoRA{'s' if concepts > 1 else ''}"


def _cell(cost: Cost | None, ratio: float | None) -> str:
    if cost is None:
        return ""
    if cost.seconds is None:
        return cost.failed
    parts = [f"{cost.seconds:.3f} s" if cost.seconds < 10 else f"{cost.seconds:.1f} s"]
    parts += [f"{ratio:.2f}x"] if ratio is not None and ratio != 1.0 else []
    parts += [f"{cost.gigabytes:.2f} GB"] if cost.gigabytes is not None else []
    parts += [f"{cost.updates} updates"] if cost.updates is not None else []
    return ", ".join(parts)


def table(columns: Sequence[Column]) -> str:
    """Markdown: a line for each kind of work, a column for each number of LoRAs."""
    names = list(dict.fromkeys(name for one in columns for name in one.costs))
    heads = [_loras(one.concepts) for one in columns]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        cells = [_cell(one.costs.get(name), one.ratio(name) if name in one.costs else None) for one in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def checks_table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown: the largest relative errors of each dtype."""
    lines = ["| dtype | quantity | largest error |", "|---|---|---|"]
    for one in found:
        lines += [f"| {one['dtype']} | {name} | {error:.1e} |" for name, error in one["errors"].items()]
        lines += [f"| {one['dtype']} | **failed** | {text} |" for text in one["failed"]]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Check, measure, print; 1 if something was not computed as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers to this file, too")
    parser.add_argument("--device", default=default_device(), help="cuda, mps, xpu, cpu; default: what is there")
    parser.add_argument("--small", action="store_true", help="small UNets and pictures; always so on the CPU")
    parser.add_argument("--concepts", type=int, nargs="+", default=[2, 1, 8, 4], help="numbers of LoRAs, in this order")
    parser.add_argument("--dtype", choices=DTYPES, default="float16", help="of the measured models")
    parser.add_argument("--checks", nargs="*", choices=DTYPES, default=list(DTYPES), help="dtypes to check")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=9.0, help="begin nothing new after this time")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    args = parser.parse_args(arguments)
    device = torch.empty(0, device=args.device).device
    args.small = args.small or device.type == "cpu"
    dtype = torch.float32 if device.type == "cpu" else DTYPES[args.dtype]
    begun = time.monotonic()
    args.until = begun + 60 * args.minutes

    def told(text: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s  {text}", file=sys.stderr, flush=True)

    result: dict[str, Any] = {"machine": machine(device), "small": args.small, "dtype": str(dtype), "models": {}}
    print(f"{result['machine']}, {dtype}{', small: the numbers mean nothing' if args.small else ''}\n")
    result["checks"] = list(checks(args.device, args.checks, told))
    print(checks_table(result["checks"]))
    for name in args.models:
        try:
            columns = measured(name, args.device, dtype, args, told)
        except Exception as error:
            result["models"][name] = {"failed": reason(error)}
            print(f"\n{name}: {reason(error)}", flush=True)
        else:
            result["models"][name] = [one.as_json() for one in columns]
            weights = f", weights {columns[0].weights:.2f} GB" if columns and columns[0].weights else ""
            size = SMALL_SIZE if args.small else MODELS[name][1]
            print(f"\n{name}, {size} x {size} pixels{weights}\n\n{table(columns)}", flush=True)
        give_back()
        if args.json:
            args.json.write_text(json.dumps(result, indent=1))
    return 1 if any(one["failed"] for one in result["checks"]) else 0


if __name__ == "__main__":
    sys.exit(main())
