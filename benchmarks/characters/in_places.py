"""Two persons in places that are given: python -m benchmarks.characters.in_places.

Each ordered pair of the four persons is drawn in five layouts of two boxes, with four seeds. Counted: pictures in
which each person stands in its own box with its own look, by the judge. Intervals are by prompt.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

from benchmarks.characters.intervals import proportion
from benchmarks.characters.measures import look
from benchmarks.characters.methods import METHODS
from benchmarks.characters.report import table
from benchmarks.characters.run import Run, Store
from benchmarks.characters.setup import Setup, add_options, setup_of, told
from clora.prompt.region import parse_region
from research.characters.backgrounds import SIZE
from research.characters.judge import Verdict
from research.characters.prompts import PERSONS, Instance, Prompt
from research.shared.training import sheet

LAYOUTS = (
    ("left", "right"), ("right", "left"), ("3 48 47 50", "50 48 47 50"), ("50 10 47 55", "3 40 47 55"),
    ("3 12 47 55", "50 42 47 55"),
)  # fmt: skip
"""Two places each, as a tag has them."""
PLACES = ("on grass", "in snow", "at the beach", "in a room", "at night")


def prompts() -> list[Prompt]:
    """A prompt for each ordered pair and layout; the first place is the first person's."""
    found = []
    for first, second in permutations(PERSONS, 2):
        for number, (layout, where) in enumerate(zip(LAYOUTS, PLACES, strict=True)):
            pair = zip((first, second), layout, strict=True)
            said = " and ".join(f"a <lora:{name}:1:place={place}> sks person" for name, place in pair)
            expect = (Instance("person", first), Instance("person", second))
            found.append(Prompt(f"{first}-{second}-{number}", "places", "report", f"{said} {where}", expect))
    return found


def stands(name: str, place: str, verdict: Verdict) -> bool:
    """Whether a subject with this look has its middle in the place."""
    box = parse_region(place, "the benchmark")
    inside = [
        one for one in verdict.subjects
        if 0 <= one.x / SIZE - box.left <= box.width and 0 <= one.y / SIZE - box.top <= box.height
    ]  # fmt: skip
    return any(one.name == name for one in inside)


def in_places(args: argparse.Namespace, setup: Setup) -> None:
    """Draw and judge what is missing and print the shares. Raises: CLoRAError."""
    drawn = prompts()
    setup.check(one.prompt for one in drawn)
    store = Store(args.out, setup.judge_name)
    results = Run(store, setup).results(drawn, [METHODS["default"]], range(args.seeds), bool(args.sheet))
    if args.sheet:
        args.sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet([store.picture(one.key) for one in results], len(LAYOUTS) * 2, args.sheet, 160)
    placed = [
        [stands(one.name, place, r.verdict)
         for one, place in zip(r.prompt.expect, LAYOUTS[int(r.prompt.id[-1])], strict=True)]
        for r in results
    ]  # fmt: skip
    names, persons = [r.prompt.id for r in results], [one for pair in placed for one in pair]
    alone = [look(r.prompt, r.verdict).rating.exact for r in results]
    rows = [
        line("both in their places with their own look", [all(pair) for pair in placed], names),
        line("persons in their places with their own look", persons, [name for name in names for _ in range(2)]),
        line("both looks somewhere, and nothing more", alone, names),
    ]
    print(table(["counted", "share", "95 % interval", "of"], rows))


def line(name: str, values: Sequence[bool], prompts_of: Sequence[str] = ()) -> list[str]:
    """A row of the table; `prompts_of` names each value's prompt, if prompts have several."""
    groups: dict[str, list[float]] = {}
    for prompt, value in zip(prompts_of or map(str, range(len(values))), values, strict=True):
        groups.setdefault(prompt, []).append(float(value))
    low, high = proportion(list(groups.values()))
    share = 100 * sum(values) / len(values)
    return [name, f"{share:.0f} %", f"{100 * low:.0f} to {100 * high:.0f} %", str(len(values))]


def main(arguments: list[str] | None = None) -> int:
    """Run it; an error is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.characters.in_places", description=__doc__)
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=4, help="seeds 0 to N - 1 of each prompt")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a contact sheet")
    args = parser.parse_args(arguments)
    return told(lambda: in_places(args, setup_of(args)))


if __name__ == "__main__":
    sys.exit(main())
