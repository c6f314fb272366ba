"""Draws the pictures on the cards of the embedded LoRAs: python -m research.figures.thumbnails."""

from __future__ import annotations

from PIL import Image

from clora.embedded import EMBEDDED_LORAS
from clora.hosts.diffusers import compose
from clora.hosts.diffusers.checkpoint import load_pipeline
from clora.page.cards import SIZE, THUMBNAILS

PROMPTS = {"lava": "a <lora:lava:1> ball on lava", "sketch": "a <lora:sketch:1> house, sketch style"}
"""Prompts of the LoRAs that draw no subject. The others are drawn in snow, because no look has its colour."""
SUBJECTS = {
    "alienstar": "star", "candyhouse": "house", "moonball": "ball", "ninjaheart": "heart", "sunball": "ball",
    "tigerfish": "fish",
}  # fmt: skip


def main() -> None:
    """Write one small WebP file for each embedded LoRA."""
    pipe = load_pipeline(None)
    THUMBNAILS.mkdir(exist_ok=True)
    for path in sorted(EMBEDDED_LORAS.glob("*.safetensors")):
        name = path.stem
        prompt = PROMPTS.get(name) or f"a <lora:{name}:1> sks {SUBJECTS[name]} in snow"
        drawn = compose(pipe, prompt, loras=EMBEDDED_LORAS, seed=0, steps=25, guidance=3.0)
        picture = drawn.images[0].resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        picture.save(THUMBNAILS / f"{name}.webp", quality=80)
        print(THUMBNAILS / f"{name}.webp")


if __name__ == "__main__":
    main()
