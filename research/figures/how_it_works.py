"""Draws the figure of how CLoRA works from a real run: python -m research.figures.how_it_works [--out FILE]."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from clora.embedded import DEMO_PROMPT, EMBEDDED_GUIDANCE, EMBEDDED_LORAS
from clora.engine.composer import Event, Step
from clora.hosts.diffusers import Composed, compose, decode
from clora.hosts.diffusers.checkpoint import load_pipeline
from clora.models.denoiser import Row
from clora.pictures import concept_color, flat, heat
from clora.settings import Settings

TILE, GAP, HEAD = 176, 14, 30
TEXT_WIDTH = 290


def clean_pictures(pipe: Any, step: Step, timestep: int, predictions: Sequence[Tensor]) -> list[Image.Image]:
    """The finished picture that each prediction (C, h, w) implies: its x0, decoded."""
    alpha = pipe.scheduler.alphas_cumprod[timestep]
    latent = step.latent[0]
    kind = pipe.scheduler.config.prediction_type
    clean = [
        alpha.sqrt() * latent - (1 - alpha).sqrt() * p
        if kind == "v_prediction"
        else (latent - (1 - alpha).sqrt() * p) / alpha.sqrt()
        for p in predictions
    ]
    return [picture.resize((TILE, TILE), Image.Resampling.BICUBIC) for picture in decode(pipe, torch.stack(clean))]


def draw_figure(pipe: Any, composed: Composed, step: Step, timestep: int) -> Image.Image:
    """One row for each variant: its prompt, its maps, its mask, its own picture; beside them the fused picture."""
    plan_variants = composed.compositions[0].variants
    concepts = composed.compositions[0].concepts
    masks = step.masks[0]
    assert masks is not None
    predictions = [step.prediction.rows[Row(0, v, True)] for v in range(len(plan_variants))]
    pictures = clean_pictures(pipe, step, timestep, [*predictions, step.cond[0]])
    titles = ["variant", *(f'map of "{c.words}"' for c in concepts), "mask", "its own picture"]
    width = TEXT_WIDTH + (TILE + GAP) * len(titles[1:]) + GAP
    sheet = Image.new("RGB", (width + TILE + 3 * GAP, HEAD + (TILE + GAP) * len(plan_variants)), (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    xs = [GAP, *(TEXT_WIDTH + (TILE + GAP) * i for i in range(len(titles)))]
    for title, x in zip(titles, xs, strict=False):
        draw.text((x, 7), title, font=ImageFont.load_default(14), fill=(200, 200, 200))
    for number, variant in enumerate(plan_variants):
        y = HEAD + (TILE + GAP) * number
        names = " + ".join(use.name for use in variant.loras) or "no LoRA"
        draw.text((GAP, y + TILE // 3), f"{variant.text}\n{names}", font=ImageFont.load_default(14), fill="white")
        columns = [heat(maps, concept_color(c), (TILE, TILE)) for c, maps in enumerate(_subject_maps(step, number))]
        color = concept_color(number - 1) if number else (230, 230, 230)
        columns += [flat(masks[number], color, (TILE, TILE)), pictures[number]]
        for column, x in zip(columns, xs[1:], strict=False):
            sheet.paste(column, (x, y))
    middle = HEAD + (TILE + GAP) * (len(plan_variants) - 1) // 2
    draw.text((width, middle - 22), "fused by the masks", font=ImageFont.load_default(14), fill=(200, 200, 200))
    sheet.paste(pictures[-1], (width, middle))
    return sheet


def _subject_maps(step: Step, variant: int) -> list[Tensor]:
    """The map (h_a, w_a) of each concept's subject words in one variant."""
    maps = step.maps
    assert maps is not None
    return [maps.of(0, variant, concept.group[variant]).mean(dim=0) for concept in step.plans[0].concepts]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the prompt and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/how-it-works.png"))
    parser.add_argument("--prompt", default=DEMO_PROMPT)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--at", type=float, default=0.5, help="part of the steps at which the figure is taken")
    options = parser.parse_args(arguments)
    pipe = load_pipeline(None)
    steps: list[Step] = []

    def keep(event: Event) -> None:
        if isinstance(event, Step):
            steps.append(event)

    composed = compose(
        pipe,
        options.prompt,
        loras=EMBEDDED_LORAS,
        seed=options.seed,
        steps=options.steps,
        guidance=EMBEDDED_GUIDANCE,
        settings=Settings("exact"),  # a single pass has no predictions of single variants
        observer=keep,
    )
    index = min(round(options.at * options.steps), options.steps - 1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw_figure(pipe, composed, steps[index], int(pipe.scheduler.timesteps[index])).save(options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
