"""Draws the gallery of examples: python -m research.figures.examples [--out FILE] [--single FOLDER]."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from clora.cli.output import write_comparison
from clora.embedded import DEMO_PROMPT, EMBEDDED_GUIDANCE, EMBEDDED_LORAS
from clora.hosts.diffusers import Composed, compose
from clora.hosts.diffusers.checkpoint import load_pipeline
from clora.hosts.diffusers.display import overlay_of
from clora.pictures import concept_color
from clora.prompt.tags import Role, parse_tags
from clora.settings import Settings

from .sheet import INK, Color, below, beside, framed, text_block

STEPS, TILE, COLUMNS = 20, 196, 2
GREY: Color = (165, 165, 165)
RED: Color = (255, 120, 110)


@dataclass(frozen=True)
class Example:
    """One prompt and the seed of its pictures; `fails` says what goes wrong, "" if nothing does."""

    name: str
    title: str
    prompt: str
    seed: int
    fails: str = ""


# The seeds were chosen among 0 to 4 of each prompt; docs/examples.md says what the others looked like.
EXAMPLES = (
    Example("classes", "Two classes", "a <lora:genie:1> sks person and a <lora:peacock:1> sks bird on grass", 2),
    Example("same-class", "Two of a class", DEMO_PROMPT, 2),
    Example(
        "three",
        "Three concepts",
        "a <lora:genie:1> sks person, a <lora:peacock:1> sks bird and a <lora:nightcat:1> sks cat at the beach",
        1,
    ),
    Example(
        "place",
        "Places",
        "a <lora:genie:1:place=right> sks person and a <lora:singer:1:place=left> sks person in snow",
        2,
    ),
    Example(
        "background",
        "A background",
        "a <lora:genie:1> sks person and a <lora:singer:1> sks person on lava <lora:lava:1:role=background>",
        2,
    ),
    Example(
        "style",
        "A style everywhere",
        "a <lora:peacock:1> sks bird and a <lora:singer:1> sks person at the beach, pencil style "
        "<lora:pencil:1:role=style>",
        2,
        "the looks are faint",
    ),
    Example(
        "style-on-one",
        "A style on one subject",
        "a <lora:genie:1> sks person and a <lora:taxi:1> sks car on grass "
        "<lora:pencil:1:role=style@car:trigger=pencil style>",
        2,
    ),
    Example(
        "three-two-of-a-class",
        "Three, two of them of a class",
        "a <lora:singer:1> sks person, a <lora:nightcat:1> sks cat and a <lora:genie:1> sks person in snow",
        1,
    ),
)


def render(pipe: Any, prompt: str, seed: int, settings: Settings) -> Composed:
    """One picture of the embedded model, with the steps and guidance of all figures in the documents."""
    return compose(
        pipe, prompt, loras=EMBEDDED_LORAS, seed=seed, steps=STEPS, guidance=EMBEDDED_GUIDANCE, settings=settings
    )


def coloured(prompt: str) -> list[tuple[str, Color]]:
    """The prompt's text in pieces: each concept's tag in the colour of its mask."""
    pieces: list[tuple[str, Color]] = []
    end, concept = 0, 0
    for tag in parse_tags(prompt):
        pieces.append((prompt[end : tag.span.start], INK))
        color = concept_color(concept) if tag.role is Role.CONCEPT else GREY
        concept += tag.role is Role.CONCEPT
        pieces.append((prompt[tag.span.start : tag.span.end], color))
        end = tag.span.end
    return [*pieces, (prompt[end:], INK)]


def tiles(merged: Composed, composed: Composed) -> list[Image.Image]:
    """Plain merge, CLoRA and its masks, reduced. The masks have no names, which would be too small to read."""
    pictures = [merged.images[0], composed.images[0]]
    overlay = overlay_of(composed, named=False)
    if overlay is not None:
        pictures.append(overlay)
    return [picture.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS) for picture in pictures]


def panel(example: Example, merged: Composed, composed: Composed) -> Image.Image:
    """One example of the gallery: its title, its three pictures, its prompt."""
    width = 3 * TILE + 2 * 6
    title = [(example.title, INK)]
    if example.fails:
        title = [(f"{example.title} (fails: {example.fails})", RED)]
    return below(
        [
            text_block(title, width, 22),
            beside([text_block([(name, GREY)], TILE, 15) for name in ("plain merge", "CLoRA", "where each LoRA drew")]),
            beside(tiles(merged, composed)),
            text_block(coloured(example.prompt), width, 17),
        ]
    )


def gallery(panels: Sequence[Image.Image]) -> Image.Image:
    """All examples in rows of `COLUMNS`."""
    rows = [beside(panels[start : start + COLUMNS], 26) for start in range(0, len(panels), COLUMNS)]
    return framed(below(rows, 24), 14)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and write all examples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/examples.jpg"), help="the gallery to write")
    parser.add_argument("--single", type=Path, default=Path("outputs/examples"), help="folder for each example alone")
    options = parser.parse_args(arguments)
    pipe = load_pipeline(None)
    panels = []
    for example in EXAMPLES:
        merged = render(pipe, example.prompt, example.seed, Settings(method="merge"))
        composed = render(pipe, example.prompt, example.seed, Settings())
        print(write_comparison(merged, composed, options.single / f"{example.name}.png", model=None))
        for warning in composed.warnings:
            print(warning)
        panels.append(panel(example, merged, composed))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    gallery(panels).save(options.out, quality=86, optimize=True)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
