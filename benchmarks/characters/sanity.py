"""Whether the world is fit for the benchmark: python -m benchmarks.characters.sanity [--only base genie merge ...].

Draws the base, each LoRA alone and in company of the base's subjects, styles on everything and on one subject, and two
persons merged. Writes contact sheets, row by row in order of prompts, and prints what the judge says of each. `detail`
and `vivid` change nothing that the judge tells: look at their sheets.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from benchmarks.characters.asked import asked, named_as_seen, of_lesson, on_one
from benchmarks.characters.measures import Rated, rated
from benchmarks.characters.methods import METHODS, PLAIN, Method
from benchmarks.characters.report import table
from benchmarks.characters.run import Result, Run, Store
from benchmarks.characters.setup import Setup, add_options, setup_of, told
from research.characters.lessons import LESSONS
from research.characters.prompts import PERSONS, STYLES, Instance, Prompt, named
from research.characters.sheets import PROMPTS, random_prompts
from research.shared.training import sheet

BASE, MERGE = "base", "merge"
BASE_PICTURES = 60
LESSON_PICTURES, MERGE_SEEDS = 48, 8
BAR = 0.7  # a plain merge of two persons must blend or lose one at least so often, or the prompts are too easy
PARTS = (BASE, *LESSONS, MERGE)
SIDE = 160


def prompts_of(part: str) -> list[Prompt]:
    """What is drawn for a part: the base's 60 captions, a LoRA's eight (and a style's on one subject), or six pairs."""
    if part == BASE:
        captions = [*PROMPTS, *random_prompts(BASE_PICTURES - len(PROMPTS), random.Random(0))]
        return [asked(f"base-{i:02}", BASE, caption) for i, caption in enumerate(captions, start=1)]
    if part == MERGE:
        return [
            Prompt(f"merge-{one}-{other}", MERGE, "report", f"{named(one)} and {named(other)}",
                   (Instance("person", one), Instance("person", other)))
            for one, other in combinations(PERSONS, 2)
        ]  # fmt: skip
    return of_lesson(part) + (on_one(part) if part in STYLES else [])


def method_of(prompt: Prompt) -> Method:
    """Plain pictures, but for a style on one subject, which needs a mask."""
    return METHODS["default"] if any(one.style for one in prompt.expect) and not prompt.style else PLAIN


def seeds_of(part: str) -> range:
    """The seeds of every prompt of a part."""
    return range({BASE: 1, MERGE: MERGE_SEEDS}.get(part) or LESSON_PICTURES // len(of_lesson(part)))


def seen(results: Sequence[Result]) -> list[Rated]:
    """What is seen; a class word in a caption stands for any of its class."""
    return rated([replace(one, prompt=named_as_seen(one.prompt, one.verdict)) for one in results])


def rows_of(part: str, rows: Sequence[Rated]) -> list[tuple[str, list[Rated]]]:
    """The lines of the table: names and pictures."""
    if part == MERGE:
        return [("plain merge of two persons", list(rows))]
    if part == BASE:
        counts = {"one subject": (1,), "two": (2,), "three and four": (3, 4), "all": (1, 2, 3, 4)}
        return [(f"base, {name}", [row for row in rows if len(row.result.prompt.expect) in count])
                for name, count in counts.items()]  # fmt: skip
    whole, name = [row for row in rows if row.result.prompt.style], f"LoRA {part}"
    if part in STYLES:
        one = [row for row in rows if not row.result.prompt.style]
        return [(f"{name}, on everything", whole), (f"{name}, on one subject", one)]
    alone = [row for row in rows if len(row.result.prompt.expect) == 1]
    company = [row for row in rows if len(row.result.prompt.expect) > 1]
    return [(f"{name}, alone", alone), (f"{name}, in company", company)]


def line(name: str, rows: Sequence[Rated], own: str) -> list[str]:
    """One line of the table. `own` is the character of the LoRA: its subjects are counted apart from the others."""
    ratings = [row.seen.rating for row in rows]
    mine, others = list[float](), list[float]()
    for row in rows:
        for subject, right in subjects(row):
            (mine if subject == own else others).append(float(right))
    shares = [_percent([float(value) for value in values]) for values in (
        [one.present for one in ratings], [one.right for one in ratings], mine, others,
        [one.blended for one in ratings], ["style" in row.seen.faults for row in rows],
        ["background" in row.seen.faults for row in rows],
    )]  # fmt: skip
    return [name, str(len(rows)), *shares]


def subjects(row: Rated) -> list[tuple[str, bool]]:
    """Each subject asked for, and whether it is there with its own look, in whatever style."""
    left = [one.name for one in row.result.verdict.subjects]
    found = []
    for one in row.result.prompt.expect:
        found.append((one.name, one.name in left))
        if one.name in left:
            left.remove(one.name)
    return found


def _percent(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / len(values):.0f} %" if values else "–"


def verdict_on_merge(rows: Sequence[Rated]) -> str:
    """Whether merging two persons fails often enough."""
    failed = [row.seen.rating.omitted > 0 for row in rows]
    share = sum(failed) / len(failed)
    met = "met" if share >= BAR else "not met"
    return f"A plain merge blends two persons or loses one in {100 * share:.0f} % (bar: {100 * BAR:.0f} %, {met})."


def sanity(args: argparse.Namespace, setup: Setup) -> None:
    """Draw and judge what is missing, write sheets, print the table. Raises: CLoRAError."""
    parts = {part: prompts_of(part) for part in args.only}
    setup.check(prompt.prompt for prompts in parts.values() for prompt in prompts)
    store = Store(args.out, setup.judge_name)
    lines, told = list[list[str]](), ""
    for part, prompts in parts.items():
        seeds = seeds_of(part)
        run = Run(store, setup)
        results = [one for prompt in prompts for one in run.results([prompt], [method_of(prompt)], seeds)]
        pictures = [store.picture(one.key) for one in results]
        sheet(pictures, 10 if part == BASE else 12, args.sheets / f"{part}.png", SIDE)
        rows = seen(results)
        own = LESSONS[part].character or "" if part in LESSONS else ""
        lines += [line(name, some, own) for name, some in rows_of(part, rows) if some]
        told = verdict_on_merge(rows) if part == MERGE else told
    head = ["drawn", "pictures", "all there", "right", "own look", "other subjects right", "blended", "wrong style",
            "wrong background"]  # fmt: skip
    print(table(head, lines))
    print(*filter(None, ["", told]), sep="\n")


def main(arguments: list[str] | None = None) -> int:
    """Run it; an error is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.characters.sanity", description=__doc__)
    add_options(parser)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--sheets", type=Path, default=Path("outputs/characters-sanity"), metavar="DIR")
    args = parser.parse_args(arguments)
    return told(lambda: sanity(args, setup_of(args)))


if __name__ == "__main__":
    sys.exit(main())
