"""How closely final masks follow painted places, on the embedded model: python -m benchmarks.painted [--seeds N]

Prints the intersection over union of each painted ellipse and the last step's mask, both at 128 x 128 cells.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from clora import compose
from clora.embedded import EMBEDDED_GUIDANCE, EMBEDDED_LORAS
from clora.hosts.diffusers.checkpoint import load_pipeline
from clora.prompt import WordsOverride
from clora.prompt.region import Painted
from clora.settings import Settings

CELLS = 128
PROMPT = "a <lora:genie:1> sks person and a <lora:singer:1> sks person on grass"


def ellipse(x: float, y: float, across: float, down: float) -> Tensor:
    """A mask (CELLS, CELLS) of an ellipse; centre and half axes in parts of the picture."""
    at = (torch.arange(CELLS) + 0.5) / CELLS
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    return (((columns - x) / across) ** 2 + ((rows - y) / down) ** 2 < 1).float()


def overlap(painted: Tensor, mask: Tensor) -> float:
    """Intersection over union of a painted mask and a mask (h, w) of the latent's size."""
    large = F.interpolate(mask[None, None].float(), (CELLS, CELLS), mode="nearest")[0, 0]
    return float((painted * large).sum() / (painted + large).clamp(max=1).sum())


def main() -> None:
    """Draw pictures with two painted places each and print the overlaps."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    pipe, generator = load_pipeline(None, device="cpu"), torch.Generator().manual_seed(1)
    for preset in ("balanced", "fast", "exact"):
        found = []
        for seed in range(options.seeds):
            a, b, c, d, e, f = torch.rand(6, generator=generator).tolist()
            left = ellipse(0.27 + 0.04 * a, 0.4 + 0.2 * b, 0.14 + 0.08 * c, 0.2 + 0.15 * d)
            right = ellipse(0.73, 0.4 + 0.2 * e, 0.2, 0.14 + 0.1 * f)
            places = {"genie": left, "singer": right}
            drawn = compose(
                pipe, PROMPT, loras=EMBEDDED_LORAS, seed=seed, steps=options.steps, guidance=EMBEDDED_GUIDANCE,
                settings=Settings(preset),
                corrections={name: WordsOverride(painted=Painted(mask)) for name, mask in places.items()},
            )  # fmt: skip
            masks = drawn.masks[0]
            assert masks is not None
            found += [overlap(mask, masks[number]) for number, mask in enumerate(places.values(), start=1)]
        print(f"{preset}: lowest {min(found):.3f}, mean {sum(found) / len(found):.3f} of {len(found)}", flush=True)


if __name__ == "__main__":
    main()
