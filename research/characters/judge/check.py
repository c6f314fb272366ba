"""How often the judge is right on renders it has not seen: `python -m research.characters.judge.check`."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from ..art import packed
from ..common import options
from ..render import Renderer
from .augment import augment
from .hard import NAMES, STYLES, WRONG, BlendArt, draw, hard_scene
from .judge import WEIGHTS, Finding, Judge, to_tensor

_SEED = 900_000  # far from any seed the judge is trained with
Counts = dict[str, Counter[str]]


def nearest(findings: list[Finding], x: float, y: float, side: float) -> Finding | None:
    """The finding nearest to a place, within a third of the side."""
    near = [(float(np.hypot(one.x - x, one.y - y)), one) for one in findings]
    near = [pair for pair in near if pair[0] < 0.33 * side]
    return min(near, key=lambda pair: pair[0])[1] if near else None


def held_out(judge: Judge, work: Path, count: int) -> Counts:
    """Right answers and questions by what was asked, on clean renders and on harmed ones."""
    rng, generator = random.Random(_SEED), torch.Generator().manual_seed(_SEED)
    renderer = Renderer(BlendArt(packed(work / "art.zip")))
    counts: Counts = {"clean": Counter(), "harmed": Counter()}
    for _ in range(0, count, 20):
        scenes = [hard_scene(rng) for _ in range(20)]
        drawn = [draw(renderer, scene) for scene in scenes]
        clean = to_tensor([picture for picture, _ in drawn])
        for kind, pictures in (("clean", clean), ("harmed", augment(clean, generator))):
            verdicts = judge.read(pictures)
            for scene, (_, labels), verdict in zip(scenes, drawn, verdicts, strict=True):
                ask = counts[kind]
                _count(ask, "background", verdict.background == scene.background)
                _count(ask, "whole style", verdict.style == (scene.style or "none"))
                for one in labels:
                    if one.seen < 0.7:
                        continue
                    found = nearest(list(verdict.subjects), one.x, one.y, one.side)
                    _count(ask, "found", found is not None)
                    if found is None:
                        continue
                    if one.name == WRONG:
                        _count(ask, "wrong ones refused", found.name == "wrong")
                    else:
                        _count(ask, "name", found.name == NAMES[one.name])
                    _count(ask, "style", found.style == STYLES[one.style])
    return counts


def _count(counter: Counter[str], question: str, right: bool) -> None:
    counter[f"{question}, asked"] += 1
    counter[question] += right


def table(counts: Counts) -> str:
    """One line for each question and kind of picture."""
    lines = ["| pictures | question | right | asked |", "|---|---|---|---|"]
    for kind, counter in counts.items():
        for question in [name.removesuffix(", asked") for name in counter if name.endswith(", asked")]:
            asked = counter[f"{question}, asked"]
            lines.append(f"| {kind} | {question} | {100 * counter[question] / asked:.1f} % | {asked} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = options(__doc__ or "")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--judge", type=Path, default=WEIGHTS, metavar="FILE", help="the judge's weights")
    args = parser.parse_args()
    print(table(held_out(Judge(args.judge), args.work, args.count)))


if __name__ == "__main__":
    main()
