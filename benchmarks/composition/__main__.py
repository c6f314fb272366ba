"""Runs the benchmark: python -m benchmarks.composition [--json F] [--limit N] [--prompts FILE] [--methods ...]."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.composition.methods import METHODS, Setup
from benchmarks.composition.prompts import PROMPTS, choose, load_prompts
from benchmarks.composition.report import rated, report, tables
from benchmarks.composition.run import Run, Store, judge_name
from benchmarks.composition.sheets import write_sheets


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.composition", description=(__doc__ or "").strip())
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--limit", type=int, default=0, help="number of prompts, taken in turn from every group")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="another prompt set")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD",
                        help=", ".join(METHODS))  # fmt: skip
    parser.add_argument("--seeds", type=int, default=4, help="seeds 0, 1, ... of every prompt")
    parser.add_argument("--split", choices=("tuning", "report", "all"), default="report")
    parser.add_argument("--sheets", type=Path, help="write contact sheets into this folder")
    parser.add_argument("--out", type=Path, default=Path("outputs/composition"),
                        help="folder of pictures and judgements; a run continues from there")  # fmt: skip
    parser.add_argument("--steps", type=int, default=Setup.steps)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Draw and judge what is missing, then print the tables."""
    args = parse(arguments)
    prompts = choose(load_prompts(args.prompts), args.split, args.limit)
    methods = [METHODS[name] for name in args.methods]
    setup = Setup(steps=args.steps, device=args.device)
    store = Store(args.out, judge_name())
    results = Run(store, setup).results(prompts, methods, range(args.seeds))
    summaries = report(rated(prompts, results))
    print(tables(summaries))
    if args.sheets:
        write_sheets(args.sheets, store, setup, prompts, methods, range(args.seeds))
    if args.json:
        run = {"split": args.split, "seeds": args.seeds, "prompts": [p.id for p in prompts], "steps": setup.steps,
               "guidance": setup.guidance, "judge": judge_name()}  # fmt: skip
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"run": run, "groups": summaries}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
