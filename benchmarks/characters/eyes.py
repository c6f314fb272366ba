"""Labels by eye, and how often the judge agrees: python -m benchmarks.characters.eyes draw | compare.

`draw` writes numbered sheets of shuffled pictures without their methods, with what each should show, a file of labels
to fill in (`present`: everything asked for is there; `right`: each with its own look, style, place), and a hidden key,
which tells what the numbers are: do not open it before all labels are written. `compare` reads both. Only it needs the
judge, unless a method does.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks.characters.methods import METHODS, Method
from benchmarks.characters.run import Run, Store, choose, read
from benchmarks.characters.setup import Setup, add_options, setup_of, told
from clora.errors import CLoRAError
from research.characters.judge.rate import Rating, rate
from research.characters.prompts import SPLITS, Prompt, load_prompts

PICTURES = 120
KEY = ".key.json"
QUESTIONS = ("present", "right")
_COLUMNS, _ROWS, _TILE, _LINE = 4, 3, 320, 64

Choice = tuple[Prompt, Method, int]
"""A prompt, a method and a seed: one picture to label."""


@dataclass(frozen=True)
class Label:
    """A person's label of a picture: the answers to QUESTIONS."""

    number: str
    present: bool
    right: bool


def sample(prompts: Sequence[Prompt], methods: Sequence[Method], seeds: Sequence[int], run: Run, count: int) -> list[
    Choice
]:  # fmt: skip
    """Different pictures in random order, of all groups in turn and of the methods used least so far."""
    rng = random.Random(0)
    groups: dict[str, list[Choice]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.group, []).extend((prompt, m, seed) for m in methods for seed in seeds)
    for choices in groups.values():
        rng.shuffle(choices)
    used, keys, found = Counter[str](), set[str](), list[Choice]()
    while len(found) < count and any(groups.values()):
        for choices in groups.values():
            choices.sort(key=lambda choice: used[choice[1].name])
            while choices and len(found) < count:
                prompt, method, seed = choices.pop(0)
                key = run.keys(prompt, method, [seed])[seed]
                if key not in keys:  # prompts that are not composed look the same with every method
                    keys.add(key)
                    used[method.name] += 1
                    found.append((prompt, method, seed))
                    break
    rng.shuffle(found)
    return found


def wanted(prompt: Prompt) -> str:
    """What a picture should show, in words: "genie riding tiger, on lava"."""
    names = [f"{one.name} in {one.style}" if one.style else one.name for one in prompt.expect]
    parts = [" + ".join(names)]
    if prompt.relation:
        kind, i, j = prompt.relation
        parts.append(f"{prompt.expect[i].name} {kind} {prompt.expect[j].name}")
    parts += [f"all in {prompt.style}"] if prompt.style else []
    parts += [f"on {prompt.background}"] if prompt.background else []
    return ", ".join(parts)


def write_sheets(folder: Path, pictures: Sequence[Image.Image], texts: Sequence[str]) -> int:
    """Write numbered sheets of twelve pictures with texts under them; returns how many sheets."""
    font, size = ImageFont.load_default(15), _COLUMNS * _ROWS
    starts = range(0, len(pictures), size)
    for start in starts:
        canvas = Image.new("RGB", (_COLUMNS * _TILE, _ROWS * (_TILE + _LINE)), "white")
        draw = ImageDraw.Draw(canvas)
        for i in range(start, min(start + size, len(pictures))):
            row, column = divmod(i - start, _COLUMNS)
            left, top = column * _TILE, row * (_TILE + _LINE)
            canvas.paste(pictures[i].resize((_TILE - 6, _TILE - 6)), (left, top))
            draw.text((left + 4, top + _TILE - 4), "\n".join(wrap(f"{i + 1}: {texts[i]}", 40)), "black", font)
        canvas.save(folder / f"sheet-{start // size + 1:02}.png")
    return len(starts)


def draw(args: argparse.Namespace, setup: Setup) -> None:
    """Draw the pictures that are missing, unjudged; write sheets, key and empty labels. Raises: CLoRAError."""
    prompts = choose(load_prompts(), args.split)
    methods = [METHODS[name] for name in args.methods]
    setup.check((prompt.prompt for prompt in prompts), any(method.judged for method in methods))
    run = Run(Store(args.out, "none"), setup)
    chosen = sample(read(setup, prompts).drawable, methods, range(args.seeds), run, args.count)
    if len(chosen) < args.count:
        raise CLoRAError(f"There are only {len(chosen)} different pictures: name more methods or seeds.")
    args.folder.mkdir(parents=True, exist_ok=True)
    labels = args.folder / "labels.json"
    if labels.exists():
        raise CLoRAError(f"{labels} exists: move it away, because new sheets have new numbers.")
    key, pictures = {}, []
    for number, (prompt, method, seed) in enumerate(chosen, start=1):
        run.draw(prompt, method, [seed])
        name = run.keys(prompt, method, [seed])[seed]
        key[str(number)] = {"prompt": prompt.id, "method": method.name, "seed": seed, "key": name}
        pictures.append(run.store.picture(name))
    sheets = write_sheets(args.folder, pictures, [wanted(prompt) for prompt, _, _ in chosen])
    (args.folder / KEY).write_text(_lines(key), "utf-8")
    labels.write_text(_lines({number: dict.fromkeys(QUESTIONS) for number in key}), "utf-8")
    print(f"{sheets} sheets of {len(key)} pictures in {args.folder}: write true or false into labels.json.")


def _lines(entries: dict[str, dict[str, object]]) -> str:
    """JSON with one entry a line."""
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(own)}" for name, own in entries.items()) + "\n}\n"


def read_object(path: Path) -> dict[str, Any]:
    """An object in a JSON file. Raises: CLoRAError if it cannot be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CLoRAError(f"{path} is missing: run `draw` first.") from error
    except ValueError as error:
        raise CLoRAError(f"{path} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise CLoRAError(f"{path} should have one entry for each picture.")
    return found


def load_labels(path: Path) -> list[Label]:
    """The labels that are filled in. Raises: CLoRAError for one that is not true or false."""
    found = []
    for number, answers in read_object(path).items():
        values = [answers.get(question) for question in QUESTIONS] if isinstance(answers, dict) else [answers]
        if all(value is None for value in values):
            continue
        if len(values) < len(QUESTIONS) or not all(isinstance(value, bool) for value in values):
            raise CLoRAError(f"Label {number} in {path} needs true or false for {' and '.join(QUESTIONS)}.")
        found.append(Label(number, *map(bool, values)))
    return found


def compare(labels: Sequence[Label], ratings: Sequence[Rating], texts: Sequence[str]) -> str:
    """How often judge and person agree, and the pictures where they differ."""
    lines = [f"{len(labels)} pictures are labelled."]
    for question in QUESTIONS:
        pairs = [(getattr(one, question), getattr(rating, question)) for one, rating in
                 zip(labels, ratings, strict=True)]  # fmt: skip
        lines.append(f"{question}: {agreement(pairs)}")
        for label, text, (seen, said) in zip(labels, texts, pairs, strict=True):
            if seen != said:
                lines.append(f"  {label.number} ({text}): seen {'yes' if seen else 'no'}, judged the other way")
    return "\n".join(lines)


def agreement(pairs: Sequence[tuple[bool, bool]]) -> str:
    """Of pairs (seen, judged): how many agree, among all, those seen yes and those seen no; Cohen's kappa."""
    agreed, yes = sum(seen == said for seen, said in pairs), [said for seen, said in pairs if seen]
    no = [not said for seen, said in pairs if not seen]
    share, seen, said = (sum(part) / len(pairs) for part in
                         ([a == b for a, b in pairs], [a for a, _ in pairs], [b for _, b in pairs]))  # fmt: skip
    chance = seen * said + (1 - seen) * (1 - said)
    kappa = f", kappa {(share - chance) / (1 - chance):.2f}" if chance < 1 else ""
    return (
        f"{agreed} of {len(pairs)} agree ({100 * share:.0f} %{kappa}), {sum(yes)} of {len(yes)} seen yes, "
        f"{sum(no)} of {len(no)} seen no"
    )


def report(args: argparse.Namespace, setup: Setup) -> None:
    """Judge the labelled pictures and print the agreement. Raises: CLoRAError."""
    key = read_object(args.folder / KEY)
    prompts = {prompt.id: prompt for prompt in load_prompts()}
    labels = load_labels(args.labels or args.folder / "labels.json")
    strange = [one.number for one in labels if one.number not in key]
    if strange:
        raise CLoRAError(f"The labels have numbers that the sheets have not: {', '.join(strange)}.")
    run = Run(Store(args.out, setup.judge_name), setup)
    gone = [one.number for one in labels if not run.store.has(key[one.number]["key"])]
    if gone or not labels:
        why = f"The pictures {', '.join(gone)} are not in {args.out}" if gone else "No picture is labelled"
        raise CLoRAError(f"{why}: run `draw` with the weights that were labelled, and fill in the labels.")
    asked = [prompts[key[one.number]["prompt"]] for one in labels]
    verdicts = run.judge([key[one.number]["key"] for one in labels])
    ratings = [rate(prompt, verdict) for prompt, verdict in zip(asked, verdicts, strict=True)]
    texts = [f"{prompt.id}, {key[one.number]['method']}" for one, prompt in zip(labels, asked, strict=True)]
    print(compare(labels, ratings, texts))


def main(arguments: list[str] | None = None) -> int:
    """Draw or compare; an error is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.characters.eyes", description=__doc__)
    parser.add_argument("what", choices=("draw", "compare"))
    add_options(parser)
    parser.add_argument("--folder", type=Path, default=Path("outputs/characters-eyes"), help="sheets, key and labels")
    parser.add_argument("--labels", type=Path, help="other labels than those in the folder")
    parser.add_argument("--count", type=int, default=PICTURES)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=["merge", "paper", "default", "fast"])
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="report")
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args(arguments)
    return told(lambda: {"draw": draw, "compare": report}[args.what](args, setup_of(args)))


if __name__ == "__main__":
    sys.exit(main())
