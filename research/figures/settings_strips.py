"""Draws strips that show what each setting does: python -m research.figures.settings_strips [--only NAME ...]."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from clora.embedded import DEMO_PROMPT
from clora.hosts.diffusers import Composed
from clora.hosts.diffusers.checkpoint import load_pipeline
from clora.hosts.diffusers.display import overlay_of
from clora.settings import BY_NAME, Settings

from .examples import GREY, render
from .sheet import INK, below, beside, framed, text_block

TILE = 176
SEED = 1
# Each is placed where the order of the words does not put it.
PLACED = "a <lora:genie:1:place=right> sks person and a <lora:singer:1:place=left> sks person on grass"
APART = "a <lora:ogre:1:place=3 15 46 48> sks monster and a <lora:peacock:1:place=50 46 46 48> sks bird in a forest"
TRIGGERED = "a <lora:genie:1:trigger=sks> person and a <lora:singer:1:trigger=sks> person on grass"
STYLED = "a <lora:genie:1> sks person and a <lora:singer:1> sks person on grass, <lora:pencil:1:role=style> pencil"
THREE = "a <lora:genie:1> sks person, a <lora:peacock:1> sks bird and a <lora:nightcat:1> sks cat at the beach"


@dataclass(frozen=True)
class Strip:
    """The same prompt and seed with several values of one setting, on top of `others`."""

    setting: str
    values: tuple[Any, ...]
    others: dict[str, Any] = field(default_factory=dict)
    prompt: str = DEMO_PROMPT
    masks: bool = True
    seed: int = SEED


STRIPS = (
    Strip("method", ("clora", "merge", "composite", "switch"), masks=False),
    Strip("step_size", (0, 2, 10, 40)),
    Strip("update_until", (0, 0.15, 0.3, 0.6)),
    Strip("refine_at", ((), (0.0,), (0.0, 0.1, 0.2))),
    Strip("refine_updates", (0, 5, 20, 60), {"refine_at": (0.0, 0.2), "refine_tolerance": 0}),
    Strip("refine_tolerance", (0, 0.01, 0.03, 0.1), {"refine_at": (0.0, 0.2)}),
    Strip("update_cap", (0, 0.01, 0.03, 0.1)),
    Strip("update_layers", ("all", "down")),
    Strip("temperature", (0.05, 0.2, 0.5, 2)),
    Strip("maps", ("conditional", "both")),
    Strip("noise", ("fresh", "stale")),
    Strip("look_ahead", (0, 0.1, 0.2, 0.4)),
    Strip("own_places", (0, 0.2, 0.4, 1), seed=5),
    Strip("stress", (1, 1.2, 1.4, 2), prompt=THREE, seed=3),
    Strip("style_from", (0, 0.2, 0.4, 0.6), prompt=STYLED, seed=0),
    Strip("look_guidance", (1, 1.35, 2.5, 3.5)),
    Strip("fuse_from", (0, 0.1, 0.3, 0.6), {"look_ahead": 0}),
    Strip("mask_words", ("subject", "all"), prompt=TRIGGERED),
    Strip("mask_threshold", (0.2, 0.4, 0.6, 0.8)),
    Strip("mask_scale", ("range", "max")),
    Strip("mask_grid", ("latent", "map")),
    Strip("mask_smooth", (True, False)),
    Strip("mask_overlap", ("argmax", "average")),
    Strip("mask_dilate", (False, True)),
    Strip("mask_erode", (False, True)),
    Strip("mask_open", (False, True)),
    Strip("mask_close", (False, True)),
    Strip("mask_every", (1, 5, 20)),
    Strip("mask_until", (1, 0.5, 0.2)),
    Strip("hint_masks", ("replace", "multiply"), prompt=PLACED),
    Strip("hint_pull", (0, 1, 4, 12), prompt=APART, seed=11),
    Strip("fusion", ("single-pass", "exact")),
    Strip("shared_uncond", (False, True), {"fusion": "exact"}),
    Strip("variants_every", (1, 2, 4), {"fusion": "exact"}),
    Strip("compose_until", (1, 0.9, 0.7, 0.4), masks=False),
)


def column(composed: Composed, text: str, masks: bool) -> Image.Image:
    """A picture, its masks if asked for, and the value below."""
    pictures = [composed.images[0]]
    overlay = overlay_of(composed, named=False) if masks else None
    if overlay is not None:
        pictures.append(overlay)
    small = [picture.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS) for picture in pictures]
    return below([*small, text_block([(text, INK)], TILE, 17)])


def draw_strip(pipe: Any, strip: Strip) -> Image.Image:
    """One figure: a column for each value."""
    setting = BY_NAME[strip.setting]
    columns = []
    for value in strip.values:
        settings = Settings(**{**strip.others, strip.setting: value})
        shown = setting.text(setting.parse(value)) or "none"
        if setting.parse(value) == setting.default:
            shown += " (default)"
        columns.append(column(render(pipe, strip.prompt, strip.seed, settings), shown, strip.masks))
    pieces = [(f"{setting.label} ({strip.setting})", INK)]
    for name, value in strip.others.items():
        other = BY_NAME[name]
        pieces.append((f"with {other.label} {other.text(other.parse(value))}", GREY))
    sheet = beside(columns)
    return framed(below([text_block(pieces, sheet.width, 18), sheet]))


# The same two LoRAs with their tags written in different ways.
PROMPTS = (
    ("right: each tag before its words", "a <lora:genie:1> sks person and a <lora:singer:1> sks person on grass"),
    ("wrong: tags side by side, one concept", "a sks person and a sks person on grass <lora:genie:1><lora:singer:1>"),
    (
        "right: at the end, with words and number",
        "a sks person and a sks person on grass "
        "<lora:genie:1:words=sks person:nth=1><lora:singer:1:words=sks person:nth=2>",
    ),
    ("right: without sks, which is added", "a <lora:genie:1> person and a <lora:singer:1> person on grass"),
)


def draw_prompts(pipe: Any) -> Image.Image:
    """One column for each way of writing a prompt."""
    columns = []
    for title, prompt in PROMPTS:
        composed = render(pipe, prompt, 2, Settings())
        columns.append(column(composed, title, True))
        columns[-1] = below([columns[-1], text_block([(prompt.replace("><", "> <"), GREY)], TILE, 13)])
    return framed(beside(columns, 10))


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and write the strips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/settings"), help="the folder to write to")
    parser.add_argument("--only", nargs="+", help="draw only these settings, or prompts")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    pipe = load_pipeline(None)
    if not options.only or "prompts" in options.only:
        draw_prompts(pipe).save(options.out.parent / "prompts.jpg", quality=72, optimize=True)
    for strip in STRIPS:
        if not options.only or strip.setting in options.only:
            path = options.out / f"{strip.setting}.jpg"
            draw_strip(pipe, strip).save(path, quality=52, optimize=True)
            print(path, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
