"""A small evaluation on the embedded model."""

from __future__ import annotations

from pathlib import Path

from clora.cli.main import main

PROMPTS = (
    "a <lora:genie:1> sks person and a <lora:singer:1> sks person on grass\n"
    "a <lora:poodle:1:trigger=sks> dog and a <lora:genie:1> sks person, <lora:pencil:0.7:role=style>\n"
)
QUICK = "quick:update_until=0.1,refine_updates=1"
PICTURES = 2 * 3 + 2 * 2 * 2  # references of three LoRAs, two prompts by two methods and seeds


def evaluate(models: Path, out: Path, *more: str) -> int:
    return main(
        ["evaluate", "--prompts", str(models / "p.txt"), "--methods", "merge", QUICK, "--seeds", "2", "--references",
         "2", "--steps", "2", "--dino", str(models / "dino"), "--clip", str(models / "clip"), "--segmenter",
         str(models / "seg"), "--device", "cpu", "--out", str(out), *more]
    )  # fmt: skip
