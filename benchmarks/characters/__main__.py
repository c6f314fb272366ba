"""Runs the benchmark: python -m benchmarks.characters [--methods ...] [--groups ...] [--limit N] [--json FILE].

Prints for each group of prompts how often each method draws what was asked for, and what went wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.characters.likeness import ART, by_art, measured
from benchmarks.characters.measures import rated
from benchmarks.characters.methods import METHODS, REFERENCE
from benchmarks.characters.report import report, tables
from benchmarks.characters.run import Readings, Run, Store, choose, read
from benchmarks.characters.setup import Setup, add_options, setup_of, told
from benchmarks.characters.sheets import write_sheets
from clora.errors import CLoRAError
from research.characters.prompts import GROUPS, PROMPTS, SPLITS, load_prompts


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.characters", description=__doc__)
    add_options(parser)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD",
                        help=", ".join(METHODS))  # fmt: skip
    parser.add_argument("--against", choices=list(METHODS), metavar="METHOD",
                        help=f"the method that the others are compared with ({REFERENCE}, or the first)")  # fmt: skip
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="another file of prompts")
    parser.add_argument("--groups", nargs="+", choices=[*GROUPS, "single"], default=[], metavar="GROUP",
                        help=", ".join([*GROUPS, "single"]))  # fmt: skip
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="report")
    parser.add_argument("--seeds", type=int, default=4, help="seeds 0, 1, ... of every prompt")
    parser.add_argument("--limit", type=int, default=0, help="number of prompts, taken in turn from every group")
    parser.add_argument("--likeness", nargs="?", type=Path, const=ART, metavar="ART",
                        help="measure likeness to this art.zip, too")  # fmt: skip
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="write contact sheets into this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers here")
    args = parser.parse_args(arguments)
    args.against = args.against or (REFERENCE if REFERENCE in args.methods else args.methods[0])
    if args.against not in args.methods:
        parser.error(f"--against {args.against} is not one of --methods")
    return args


def benchmark(args: argparse.Namespace, setup: Setup) -> None:
    """Draw and judge what is missing, then print the tables. Raises: CLoRAError."""
    try:
        every = load_prompts(args.prompts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CLoRAError(f"The prompts {args.prompts} cannot be read: {error}.") from error
    prompts = choose(every, args.split, args.limit, args.groups)
    setup.check(prompt.prompt for prompt in prompts)
    likeness = by_art(args.likeness) if args.likeness else None
    readings = read(setup, prompts)
    tell(readings)
    store = Store(args.out, setup.judge_name)
    methods = [METHODS[name] for name in args.methods]
    pictures = bool(args.sheets or args.likeness)
    results = Run(store, setup).results(readings.drawable, methods, range(args.seeds), pictures)
    alike = measured(store, setup.judge_name, likeness, results) if likeness else ()
    rows = rated(results, alike)
    summaries = report(rows, args.against, readings.as_usual)
    print(tables(summaries, args.against))
    if args.sheets:
        write_sheets(args.sheets, store, rows)
    if args.json:
        run = {"split": args.split, "seeds": args.seeds, "steps": setup.steps, "guidance": setup.guidance,
               "judge": setup.judge_name, "against": args.against, "prompts": [p.id for p in readings.drawable],
               "as usual": readings.as_usual, "refused": readings.refused}  # fmt: skip
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"run": run, "groups": summaries}, indent=1))


def tell(readings: Readings) -> None:
    """Say which prompts cannot compare methods."""
    for name, why in readings.refused.items():
        print(f"{name} is left out, because CLoRA refuses it: {why}", file=sys.stderr)
    several = [p.id for p in readings.drawable if p.id in readings.as_usual and p.group != "single"]
    if several:
        told = f"{len(several)} prompts are not composed and look the same with every method: {', '.join(several)}"
        print(told, file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; an error is one sentence."""
    args = parse(arguments)
    return told(lambda: benchmark(args, setup_of(args)))


if __name__ == "__main__":
    sys.exit(main())
