"""What the LoRAs themselves can draw: python -m benchmarks.composition.alone [--seeds N] [--split S].

Each LoRA of a prompt draws alone in the prompt's own scene. The other LoRAs' tags and trigger words are removed, so the
base draws their subjects. "All" counts the prompts and seeds in which every LoRA draws its own look. It can be compared
with compositions, but it is no upper bound: a LoRA that is on everywhere also changes its neighbours, and one with a
mask does not.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.characters.intervals import proportion
from benchmarks.composition.methods import Setup, by_composing
from benchmarks.composition.prompts import SPLITS, Prompt, choose, load_prompts
from clora.prompt.tags import parse_tags
from clora.settings import Settings

GROUPS = ("two classes", "same class", "three")
_TRIGGER = re.compile(r"\s*sks\b")


def scene_with(text: str, name: str) -> str:
    """The prompt with the tag of one LoRA only; other tags are removed together with a trigger word behind them."""
    for tag in reversed(parse_tags(text)):
        if tag.name != name:
            trigger = _TRIGGER.match(text, tag.span.end)
            rest = text[trigger.end() if trigger else tag.span.end :]
            text = f"{text[: tag.span.start].rstrip()} {rest.lstrip()}"
    return text


def drawn_alone(setup: Setup, prompt: Prompt, seeds: Sequence[int]) -> dict[str, list[bool]]:
    """For each LoRA of the prompt and each seed: whether a thing of its class has its look."""
    found = {}
    for thing in prompt.expect:
        if thing.look == "none" or thing.look in found:
            continue
        pictures = by_composing(setup, scene_with(prompt.text, thing.look), seeds, Settings(method="merge"))
        of_kind = [[one for one in verdict.things if one.kind == thing.kind] for verdict in setup.judge(pictures)]
        found[thing.look] = [any(one.carries(thing.look) for one in things) for things in of_kind]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print one line for each group."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.composition.alone", description=__doc__)
    parser.add_argument("--seeds", type=int, default=4, help="seeds 0, 1, ... of every prompt")
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="report")
    args = parser.parse_args(arguments)
    setup, prompts = Setup(), choose(load_prompts(), args.split, 0)
    print("| group | all | each LoRA |\n|---|---|---|")
    for group in GROUPS:
        looks: dict[str, list[bool]] = defaultdict(list)
        together = []
        for prompt in (prompt for prompt in prompts if prompt.group == group):
            found = drawn_alone(setup, prompt, range(args.seeds))
            for look, drawn in found.items():
                looks[look] += drawn
            together.append([all(of_seed) for of_seed in zip(*found.values(), strict=True)])
            print(f"{prompt.id}: {found}", file=sys.stderr)
        right = [value for values in together for value in values]
        part, low, high = (100 * value for value in (sum(right) / len(right), *proportion(together)))
        each = ", ".join(f"{look} {sum(drawn)} of {len(drawn)}" for look, drawn in sorted(looks.items()))
        whole = f"{sum(right)} of {len(right)}: {part:.0f} % ({low:.0f} to {high:.0f})"
        print(f"| {group} | {whole} | {each} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
