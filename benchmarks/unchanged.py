"""Records what many runs draw, and compares later whether they still draw it: python -m benchmarks.unchanged --help.

Made for moving code about: record before, compare after, on the same machine with the same libraries. The runs are
those of diffusers on the embedded model in double precision, and those of the WebUIs' stand-ins (tests/standin).
Everything must be equal to the last bit but the warnings, which are only told: their wording may change.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import clora
from clora import Settings, compose
from clora.prompt import WordsOverride
from clora.prompt.region import Painted

from .unchanged_drawn import Drawn, Facts
from .unchanged_standin import standin_runs

ASSETS = Path(clora.__file__).parent / "embedded" / "assets"
PROMPT = "a <lora:genie:1> sks person and a <lora:singer:1> sks person on grass"
THREE = "a <lora:genie:1> sks person, a <lora:peacock:1> sks bird and a <lora:nightcat:1> sks cat under water"
ON_LAVA = "a <lora:genie:1> sks person and a <lora:singer:1> sks person on lava <lora:lava:1:role=background>"
PLACED = "a <lora:genie:1:place=left> sks person and a <lora:singer:1> sks person in snow"
EXACT = {"fusion": "exact", "refine_updates": 2}
TOLD_APART = ("warnings",)

# `settings` are CLoRA's, `painted` a LoRA that is painted into the right half; the others are arguments of `compose`.
RUNS: dict[str, dict[str, Any]] = {
    "default": {},
    "exact": {"settings": {"preset": "exact", "refine_updates": 6}},
    "fast": {"settings": {"preset": "fast"}},
    "paper": {"settings": {"preset": "paper", "refine_updates": 6}},
    "three subjects, not square": {"prompt": THREE, "width": 160},
    "exact fusion, few updates": {"settings": EXACT},
    "merge": {"settings": {"method": "merge"}},
    "composite": {"settings": {"method": "composite"}, "prompt": ON_LAVA},
    "switch": {"settings": {"method": "switch"}, "prompt": ON_LAVA},
    "one subject": {"prompt": "a <lora:genie:1> sks person on grass"},
    "shared negative": {"settings": {**EXACT, "shared_uncond": True}, "negative_prompt": "blurry"},
    "variants every 2": {"settings": {**EXACT, "variants_every": 2}},
    "compose until 0.6": {"settings": {**EXACT, "compose_until": 0.6}},
    "update on the way down": {"settings": {"update_layers": "down"}},
    "masks every 2, until 0.8": {"settings": {"mask_every": 2, "mask_until": 0.8}},
    "mask options": {"settings": {**EXACT, "mask_grid": "map", "mask_open": True, "mask_dilate": True,
                                  "mask_overlap": "average", "mask_scale": "max", "mask_words": "all"}},
    "rows per forward": {"settings": {**EXACT, "rows_per_forward": 2, "maps": "both"}},
    "refine everywhere, capped": {"settings": {"refine_at": (0.0, 0.3, 0.6), "refine_tolerance": 0.0,
                                               "refine_updates": 4, "update_until": 0.8, "update_cap": 0.05}},
    "stale noise": {"settings": {**EXACT, "noise": "stale", "temperature": 0.3}},
    "places": {"prompt": PLACED, "painted": "singer"},
    "places, multiplied": {"prompt": PLACED, "painted": "singer",
                           "settings": {**EXACT, "hint_masks": "multiply", "hint_pull": 3.0}},
    "background": {"prompt": ON_LAVA},
    "background, exact fusion": {"prompt": ON_LAVA, "settings": EXACT},
    "style": {"prompt": f"{PROMPT}, pencil style <lora:pencil:1:role=style>"},
    "style@": {"prompt": f"{PROMPT} <lora:pencil:1:role=style@person:nth=2:trigger=pencil style>"},
    "scheduled": {"prompt": f"{PROMPT} [by day:at night:0.5]"},
    "long, weights, BREAK": {"prompt": f"{'a very, ' * 50} BREAK {PROMPT} with a (red:1.3) balloon",
                             "negative_prompt": "bad, worse" + ", blurry" * 40},
    "two prompts": {"prompt": [PROMPT, "a <lora:peacock:0.9> sks bird beside a <lora:genie:0.8:0.6> sks person"]},
    "one of two composes": {"prompt": [PROMPT, "a <lora:peacock:0.9> sks bird at the beach"]},
    "guidance": {"guidance": 1.0},
    "guidance rescaled, clip skip": {"guidance": 7.5, "guidance_rescale": 0.7, "clip_skip": 2},
}  # fmt: skip


def embedded_pipeline() -> Any:
    """The embedded model in double precision."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    pipe = StableDiffusionPipeline.from_pretrained(
        ASSETS / "model", torch_dtype=torch.float64, safety_checker=None, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(
    pipe: Any, *, prompt: Any = PROMPT, settings: Mapping[str, Any] | None = None, painted: str = "", **more: Any
) -> Drawn:
    """One run of diffusers; its path is every update's latent, and every step's latent and masks."""
    path: list[Tensor | None] = []

    def observe(event: Any) -> None:
        moved = getattr(event, "after", None)
        path.extend([event.latent, *event.masks, event.cond, event.uncond] if moved is None else [moved])

    right = torch.zeros(8, 8)
    right[:, 4:] = 1.0
    given = {"seed": 2, "steps": 6, "guidance": 3.5, "width": 128, "height": 128, **more}
    if painted:
        given["corrections"] = {painted: WordsOverride(painted=Painted(right))}
    torch.manual_seed(0)
    done = compose(
        pipe, prompt, loras=ASSETS / "loras", settings=Settings(**(settings or {})), observer=observe, **given
    )
    return Drawn(done.latents, path, [*done.masks, *done.found], done.images, (), done.warnings)


def diffusers_runs(runs: Mapping[str, Mapping[str, Any]] = RUNS) -> Iterator[tuple[str, Drawn]]:
    """Every run of diffusers with its name."""
    pipe = embedded_pipeline()
    for name, fields in runs.items():
        yield f"diffusers: {name}", draw(pipe, **fields)


def recorded() -> dict[str, Any]:
    """The facts of all runs and what they depend on besides the code, as JSON has them."""
    torch.set_num_threads(1)
    runs: dict[str, Facts] = {}
    for name, drawn in chain(diffusers_runs(), standin_runs()):
        runs[name] = drawn.facts()
        print(f"drawn: {name}", file=sys.stderr)
    machine = {
        "torch": torch.__version__,
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
    }
    found: dict[str, Any] = json.loads(json.dumps({"machine": machine, "runs": runs}))
    return found


def differences(before: Facts | None, after: Facts | None) -> list[str]:
    """Names of the facts of one run that are not the same; a run that is missing differs."""
    if before is None or after is None:
        return ["missing before" if before is None else "missing now"]
    names = [name for name in {**before, **after} if name not in TOLD_APART]
    return [name for name in names if before.get(name) != after.get(name)]


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Print each run as equal or different, and other wordings of warnings; whether all are equal."""
    for name, value in after["machine"].items():
        if before["machine"].get(name) != value:
            print(f"note: {name} was {before['machine'].get(name)} and is {value}: other numbers are no wonder")
    count = {True: 0, False: 0}
    for name in {**before["runs"], **after["runs"]}:
        one, other = before["runs"].get(name), after["runs"].get(name)
        found = differences(one, other)
        count[not found] += 1
        print(f"{'different' if found else 'equal':9} {name}{': ' if found else ''}{', '.join(found)}")
        if one and other and one["warnings"] != other["warnings"]:
            print(f"          warnings were {one['warnings']}\n          warnings are  {other['warnings']}")
    print(f"{count[True]} runs are equal, {count[False]} are different")
    return count[False] == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0 when recorded or all equal, 1 when something differs, 2 when there is no record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("record", "compare"))
    parser.add_argument("file", type=Path, help="the record, JSON")
    options = parser.parse_args(arguments)
    if options.do == "compare" and not options.file.is_file():
        print(f"There is no record {options.file}: make one with record.", file=sys.stderr)
        return 2
    start = time.monotonic()
    found = recorded()
    print(f"{len(found['runs'])} runs in {time.monotonic() - start:.0f} s")
    if options.do == "record":
        options.file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    return 0 if compare(json.loads(options.file.read_text("utf-8")), found) else 1


if __name__ == "__main__":
    sys.exit(main())
