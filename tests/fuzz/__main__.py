"""python -m tests.fuzz --seconds 60: try hostile input and print what is neither an answer nor one sentence."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.run import fuzz


def main() -> int:
    """Returns 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=-1, help="default: the time")
    parser.add_argument("--only", nargs="+", default=(), metavar="EDGE")
    parser.add_argument("--count", type=int, default=0, help="inputs of each edge, instead of --seconds")
    options = parser.parse_args()
    seed = options.seed if options.seed >= 0 else int(time.time()) * 1000
    outcome = fuzz(options.seconds, seed, only=options.only, count=options.count)
    for name, runs in outcome.runs.items():
        print(f"{name:12} {runs:7} inputs, {outcome.refused[name]:7} refused with a sentence")
    for one in outcome.findings:
        print(f"\nFOUND with --only {one.edge} --seed {one.seed} --count 1\n{one.what.rstrip()}")
    print(f"\nseed {seed}: {sum(outcome.runs.values())} inputs, {len(outcome.findings)} findings")
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
