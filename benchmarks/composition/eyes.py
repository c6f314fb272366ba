"""How often the judge agrees with a person who looked at the pictures: python -m benchmarks.composition.eyes.

`eyes.json` holds the person's labels: whether all things asked for are there, and whether all looks are right. They
belong to the engine and the model that drew the pictures; label again after either changes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.composition.methods import METHODS, Setup
from benchmarks.composition.metrics import Rating, rate
from benchmarks.composition.prompts import load_prompts
from benchmarks.composition.run import Run, Store, judge_name

EYES = Path(__file__).with_name("eyes.json")


@dataclass(frozen=True)
class Label:
    """A person's label of one picture."""

    prompt: str
    method: str
    seed: int
    present: bool
    right: bool
    blind: bool = False  # labelled before any judge had seen the picture

    @property
    def name(self) -> str:
        """Prompt, method and seed, for lists."""
        return f"{self.prompt}, {self.method}, seed {self.seed}"


def load_labels(path: Path = EYES) -> list[Label]:
    """All labels."""
    return [Label(**entry) for entry in json.loads(path.read_text("utf-8"))]


def compare(labels: Sequence[Label], ratings: Sequence[Rating]) -> str:
    """How often judge and person agree, and the pictures where they differ."""
    lines = []
    for name in ("right", "present"):
        pairs = [
            (label, getattr(label, name), getattr(rating, name)) for label, rating in zip(labels, ratings, strict=True)
        ]
        lines.append(f"{name}: {_agreement([(seen, said) for _, seen, said in pairs])}")
        differing = [(label, seen) for label, seen, said in pairs if seen != said]
        lines += [f"  {label.name}: seen {'yes' if seen else 'no'}, judged the other way" for label, seen in differing]
    return "\n".join(lines)


def _agreement(pairs: Sequence[tuple[bool, bool]]) -> str:
    """Of pairs (seen, judged): how many agree, among all, those seen yes and those seen no."""
    agreed, yes = sum(seen == said for seen, said in pairs), [said for seen, said in pairs if seen]
    no = [not said for seen, said in pairs if not seen]
    share = f"{agreed} of {len(pairs)} agree ({100 * agreed / len(pairs):.0f} %)"
    return f"{share}, {sum(yes)} of {len(yes)} seen yes, {sum(no)} of {len(no)} seen no"


def main(arguments: list[str] | None = None) -> int:
    """Draw what is missing, then compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--labels", type=Path, default=EYES)
    parser.add_argument("--out", type=Path, default=Path("outputs/eyes"))
    parser.add_argument("--blind", action="store_true", help="only those labelled before any judgement")
    args = parser.parse_args(arguments)
    labels = [label for label in load_labels(args.labels) if label.blind or not args.blind]
    prompts = {prompt.id: prompt for prompt in load_prompts()}
    run = Run(Store(args.out, judge_name()), Setup())
    ratings = []
    for label in labels:
        (result,) = run.results([prompts[label.prompt]], [METHODS[label.method]], [label.seed])
        ratings.append(rate(prompts[label.prompt], result.verdict))
    print(compare(labels, ratings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
