"""The options of `clora evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import methods as known
from . import paper


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `clora evaluate` other than model, LoRA folders and device."""
    add = parser.add_argument
    add("--prompts", type=Path, help="prompts with LoRA tags, one per line, or a .json list with slots; "
        "default: this project's list of 212 prompts, whose slots --mapping fills")  # fmt: skip
    add("--mapping", type=Path, help="JSON or TOML: slot -> {lora, weight, trigger}; other prompts are skipped")
    add("--limit", type=int, default=0, help="maximum number of prompts, taken in turn from every kind")
    add("--methods", nargs="+", default=list(known.DEFAULT), metavar="METHOD",
        help=f"{', '.join(known.KNOWN)}, or NAME:key=value,... ; default: {' '.join(known.DEFAULT)}")  # fmt: skip
    add("--seeds", type=int, default=paper.SEEDS, help="number of seeds per prompt, from 0")
    add("--references", type=int, default=paper.REFERENCES, help="number of reference pictures of each LoRA alone")
    add(
        "--reference-prompt", default="a {words}", metavar="TEXT", help='prompt of the references; default: "a {words}"'
    )
    add("--dino", default=paper.DINO, metavar="ID", help="folder or hub id, or timm:NAME[@FILE]")
    add("--clip", default=paper.CLIP, metavar="ID", help="folder or hub id, or open_clip:NAME@WEIGHTS")
    add("--segmenter", default="", metavar="ID", help="a CLIPSeg model for the instance level, "
        f"such as {paper.SEGMENTER}; default: no instance level")  # fmt: skip
    add("--steps", type=int, default=paper.STEPS)
    add("--guidance", type=float, help="classifier-free guidance scale; default: 7.5, lower for the embedded model")
    add("--width", type=int, default=0, help="pixels; default: the model's own size")
    add("--height", type=int, default=0, help="pixels; default: the model's own size")
    add("--negative", default="", help="negative prompt of all pictures")
    add("--prediction", choices=("epsilon", "v_prediction", "sample"), help="what the model predicts")
    add("--ray", nargs="?", const="local", metavar="ADDRESS", help="draw on a Ray cluster, one worker per GPU; "
        "without ADDRESS on this machine's GPUs")  # fmt: skip
    add(
        "--out",
        type=Path,
        default=Path("outputs/evaluate"),
        help="folder of pictures, scores and report; an interrupted run continues there",
    )


def run_evaluate(options: argparse.Namespace) -> int:
    """Draw, measure and report; returns the exit code. Raises: CLoRAError, mostly before anything is drawn."""
    from .evaluation import evaluate

    return evaluate(options)
