"""Is a composed picture as clean as a plain one, by eye? python -m benchmarks.characters.pairs draw | compare.

`draw` writes numbered pairs: a picture of a method, and a plain picture for the same prompt, left or right by chance.
The plain one has the first LoRA alone, or none and the base's own words (see `base_alone`). With `--method lora` both
are plain, which tells what a LoRA costs by itself. In `answers.json` write "left", "right" or "same" for each pair:
which one's ground and subjects are cleaner, whatever they show. `compare` reads the answers and the hidden key.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from benchmarks.characters.base_alone import in_own_words, one_at_a_time, prompts
from benchmarks.characters.eyes import KEY, read_object, write_sheets
from benchmarks.characters.in_places import line
from benchmarks.characters.methods import METHODS, PLAIN, Method
from benchmarks.characters.report import table
from benchmarks.characters.run import Run, Store
from benchmarks.characters.setup import Setup, add_options, setup_of, told
from clora.errors import CLoRAError
from research.characters.prompts import Prompt

PAIRS = 60
ANSWERS = ("left", "right", "same")
AGAINST: dict[str, Callable[[Prompt], Prompt]] = {
    "lora": lambda prompt: one_at_a_time(prompt)[0],
    "words": in_own_words,
}
"""What the plain picture is drawn from."""
ONE_LORA = "lora"
"""In place of a method: the plain picture with the first LoRA alone."""


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Both pictures in one square, one beside the other, on white."""
    side = left.width + right.width + 8
    found = Image.new("RGB", (side, side), "white")
    for picture, x in ((left, 0), (right, left.width + 8)):
        found.paste(picture, (x, (side - picture.height) // 2))
    return found


def sides(prompt: Prompt, method: str, against: str) -> tuple[tuple[Prompt, Method], tuple[Prompt, Method]]:
    """What the two pictures of a pair are drawn from: the method's, and the plain one."""
    own = (AGAINST["lora"](prompt), PLAIN) if method == ONE_LORA else (prompt, METHODS[method])
    return own, (AGAINST[against](prompt), PLAIN)


def draw(args: argparse.Namespace, setup: Setup) -> None:
    """Draw the pictures that are missing; write sheets, key and empty answers. Raises: CLoRAError."""
    rng, asked = random.Random(0), prompts()
    chosen = rng.sample(asked, min(args.count, len(asked)))
    drawn_from = [sides(one, args.method, args.against) for one in chosen]
    setup.check((one.prompt for both in drawn_from for one, _ in both), False)
    run = Run(Store(args.out, "none"), setup)
    answers = args.folder / "answers.json"
    if answers.exists():
        raise CLoRAError(f"{answers} exists: move it away, because new sheets have new numbers.")
    args.folder.mkdir(parents=True, exist_ok=True)
    key, pictures = dict[str, str](), list[Image.Image]()
    for number, of in enumerate(drawn_from, start=1):
        both = []
        for own, how in of:
            run.draw(own, how, [args.seed])
            both.append(run.store.picture(run.keys(own, how, [args.seed])[args.seed]))
        key[str(number)] = side = rng.choice(("left", "right"))
        pictures.append(beside(*(both if side == "left" else reversed(both))))
    sheets = write_sheets(args.folder, pictures, ["left or right?"] * len(pictures))
    (args.folder / KEY).write_text(json.dumps(key), "utf-8")
    answers.write_text(json.dumps(dict.fromkeys(key), indent=0), "utf-8")
    print(f'{sheets} sheets of {len(key)} pairs in {args.folder}: write "left", "right" or "same" into answers.json.')


def outcomes(key: Mapping[str, str], answers: Mapping[str, object]) -> list[str]:
    """For each pair "better", "worse" or "same": what the method's picture is. Raises: CLoRAError."""
    wrong = [number for number in key if answers.get(number) not in ANSWERS]
    if wrong:
        raise CLoRAError(f'The pairs {", ".join(wrong)} need "left", "right" or "same" as their answer.')
    return ["same" if answers[number] == "same" else "better" if answers[number] == side else "worse"
            for number, side in key.items()]  # fmt: skip


def lines(found: Sequence[str]) -> list[list[str]]:
    """The rows of the table."""
    counted = [("cleaner", ["better"]), ("as clean", ["same"]), ("no worse", ["better", "same"])]
    return [line(name, [one in of for one in found]) for name, of in counted]


def compare(args: argparse.Namespace) -> None:
    """Print how often the method's picture is no worse. Raises: CLoRAError."""
    found = outcomes(read_object(args.folder / KEY), read_object(args.folder / "answers.json"))
    print(table(["the composed picture is", "share", "95 % interval", "of"], lines(found)))


def main(arguments: list[str] | None = None) -> int:
    """Draw or compare; an error is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.characters.pairs", description=__doc__)
    parser.add_argument("what", choices=("draw", "compare"))
    add_options(parser)
    parser.add_argument("--folder", type=Path, default=Path("outputs/characters-pairs"))
    parser.add_argument("--count", type=int, default=PAIRS)
    parser.add_argument("--method", choices=[*METHODS, ONE_LORA], default="default")
    parser.add_argument("--against", choices=list(AGAINST), default="lora")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    return told(lambda: draw(args, setup_of(args)) if args.what == "draw" else compare(args))


if __name__ == "__main__":
    sys.exit(main())
