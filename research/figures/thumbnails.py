"""Draws the pictures on the cards of the embedded LoRAs: python -m research.figures.thumbnails [--only NAME ...]."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from PIL import Image

from clora.embedded import EMBEDDED_LORAS
from clora.hosts.diffusers import compose
from clora.hosts.diffusers.checkpoint import load_pipeline
from clora.page.cards import SIZE, THUMBNAILS
from research.characters.lessons import LESSONS, Lesson

SEEDS = {"pencil": 1}  # the others have 0, with which pencil draws two foxes


def prompt_of(lesson: Lesson) -> str:
    """A prompt that shows one LoRA: a character in snow, a hat on a fox, a background or style with a base's word."""
    tag = f"<lora:{lesson.name}:1>"
    if lesson.name == "tophat":
        return f"a fox wearing a {tag} {lesson.trigger}"
    if lesson.character:
        return f"a {tag} {lesson.trigger} in snow"
    if lesson.background:
        return f"a fox <lora:{lesson.name}:1:role=background> {lesson.trigger}"
    subject = f"a fox, {lesson.trigger}" if lesson.trigger else "a wizard"
    return f"{subject} <lora:{lesson.name}:1:role=style>"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one small WebP file for each embedded LoRA."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", nargs="+", help="draw only these LoRAs")
    parser.add_argument("--seed", type=int, help="instead of each one's own")
    options = parser.parse_args(arguments)
    pipe = load_pipeline(None)
    THUMBNAILS.mkdir(exist_ok=True)
    for path in sorted(EMBEDDED_LORAS.glob("*.safetensors")):
        if options.only and path.stem not in options.only:
            continue
        prompt = prompt_of(LESSONS[path.stem])
        seed = SEEDS.get(path.stem, 0) if options.seed is None else options.seed
        drawn = compose(pipe, prompt, loras=EMBEDDED_LORAS, seed=seed, steps=25, guidance=3.0)
        picture = drawn.images[0].resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        picture.save(THUMBNAILS / f"{path.stem}.webp", quality=80)
        print(THUMBNAILS / f"{path.stem}.webp", flush=True)


if __name__ == "__main__":
    main()
