"""What no way of composing can be expected to beat: python -m benchmarks.characters.base_alone.

Two things are drawn of the report's prompts, as plain pictures:

- the base's own words: each character is replaced by a subject of the same class that the base knows, without any LoRA;
- one LoRA at a time: the other characters are the base's own, called by their class words. Counted are LoRAs that draw
  their look, and pictures whose LoRAs all do so with the same seed.

With --composed a method's pictures are split by both: those whose scene the base draws right and whose LoRAs all draw
their look, with the same prompt and seed, and the others.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.characters.in_places import line
from benchmarks.characters.measures import rated
from benchmarks.characters.methods import METHODS, PLAIN, REFERENCE
from benchmarks.characters.report import TOTAL, table
from benchmarks.characters.run import Result, Run, Store
from benchmarks.characters.setup import Setup, add_options, setup_of, told
from research.characters.prompts import Instance, Prompt, load_prompts
from research.characters.words import CHARACTERS
from research.shared.training import sheet

WORDS_FOR = {
    "genie": "ninja", "singer": "princess", "detective": "astronaut", "troll": "elf", "nightcat": "cat", "tabby": "cat",
    "mintcat": "cat", "poodle": "dog", "ogre": "monster", "peacock": "parrot", "pinata": "balloon", "taxi": "car",
    "tophat": "crown",
}  # fmt: skip
"""The base's word for each character."""
GROUPS = ("two classes", "same class", "three", "four", "touching", "interacting", "outfit", "as written")
_TAG = re.compile(r"<(?:lora|clora):[^>]*>")


def in_own_words(prompt: Prompt) -> Prompt:
    """The prompt with a word of the base for each character, and without tags."""
    expect = list[Instance]()
    text = re.sub(r"\bsks\s+", "", _TAG.sub(" ", prompt.prompt))
    for one in prompt.expect:
        word = WORDS_FOR.get(one.name, one.name)
        expect.append(replace(one, kind=word, name=word))
        if one.name in CHARACTERS:  # \0 marks words that are replaced already
            said = f"{'an' if word[0] in 'aeiou' else 'a'} \0{word}"
            text = re.sub(rf"\b(?:an?\s+)?(?<!\0){one.kind}\b", said, text, count=1)
    text = re.sub(r"\s+([,.])", r"\1", " ".join(text.replace("\0", "").split()))
    return replace(prompt, id=f"base-{prompt.id}", prompt=text.strip(" ,"), expect=tuple(expect))


def one_at_a_time(prompt: Prompt) -> list[Prompt]:
    """The prompt once for each of its LoRAs, with that one alone; it expects that LoRA's look."""
    found = []
    for name in prompt.characters:
        other = rf"<(?:clora:[^>]*|lora:(?!{name}:)[^>]*)>(?: sks)?"
        text = " ".join(re.sub(other, "", prompt.prompt).split())
        expect = tuple(one for one in prompt.expect if one.name == name)
        found.append(replace(prompt, id=f"{prompt.id}-{name}", prompt=text, expect=expect, relation=None))
    return found


def prompts() -> list[Prompt]:
    """The report's prompts of `GROUPS`."""
    return [one for one in load_prompts() if one.split == "report" and one.group in GROUPS]


def base_alone(args: argparse.Namespace, setup: Setup) -> None:
    """Draw and judge what is missing and print the shares. Raises: CLoRAError."""
    asked = prompts()
    base, single = [in_own_words(one) for one in asked], [one_at_a_time(one) for one in asked]
    setup.check(one.prompt for of in (base, *single) for one in of)
    store = Store(args.out, setup.judge_name)
    run, seeds = Run(store, setup), range(args.seeds)
    of_base = run.results(base, [PLAIN], seeds, bool(args.sheet))
    if args.sheet:
        args.sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet([store.picture(one.key) for one in of_base], 12, args.sheet, 160)
    right = [(row.result.prompt.group, row.seen.rating.exact) for row in rated(of_base)]
    each, every = list[tuple[str, bool]](), list[tuple[str, bool]]()
    for prompts_of in single:
        drawn = [[has_look(one) for one in run.results([of], [PLAIN], seeds, pictures=False)] for of in prompts_of]
        each += [(prompts_of[0].group, one) for of in drawn for one in of]
        every += [(prompts_of[0].group, all(of)) for of in zip(*drawn, strict=True)]
    tell({"the base's own words": right, "one LoRA at a time": each, "all of a prompt": every})
    if args.composed:
        composed = rated(run.results(asked, [METHODS[args.composed]], seeds, pictures=False))
        values = [(row.result.prompt.group, row.seen.rating.exact) for row in composed]
        tell(split(values, [scene and looks for (_, scene), (_, looks) in zip(right, every, strict=True)]))


def split(values: Sequence[tuple[str, bool]], possible: Sequence[bool]) -> dict[str, list[tuple[str, bool]]]:
    """What is right by group, apart for the pictures that base and LoRAs alone draw right and for the others."""
    titles = {True: "composed, base and LoRAs alone right", False: "composed, one of them not"}
    return {
        title: [one for one, can in zip(values, possible, strict=True) if can is so] for so, title in titles.items()
    }


def tell(of: dict[str, list[tuple[str, bool]]]) -> None:
    """Print a table by group for each title."""
    for name, values in of.items():
        own = {group: [one for of_group, one in values if group in (of_group, TOTAL)] for group in (*GROUPS, TOTAL)}
        rows = [line(group, found) for group, found in own.items() if found]
        print(table([name, "right", "95 % interval", "of"], rows), end="\n\n")


def has_look(one: Result) -> bool:
    """Whether the picture shows the look of the one subject that its prompt expects."""
    return any(found.name == one.prompt.expect[0].name for found in one.verdict.subjects)


def main(arguments: list[str] | None = None) -> int:
    """Run it; an error is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.characters.base_alone", description=__doc__)
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--composed", nargs="?", const=REFERENCE, choices=list(METHODS), metavar="METHOD",
                        help=f"split a method's pictures by what base and LoRAs draw alone ({REFERENCE})")  # fmt: skip
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a contact sheet of the base's pictures")
    args = parser.parse_args(arguments)
    return told(lambda: base_alone(args, setup_of(args)))


if __name__ == "__main__":
    sys.exit(main())
