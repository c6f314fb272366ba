"""The method "boxes given": masks are boxes instead of cut from maps, one box for each concept.

Boxes at fixed positions do not work, because the seed's noise leads to another layout. So each box is where the model
without the subjects' LoRAs draws a thing of the class from the same prompt and seed (the judge finds it). The base
alone draws the first steps, because a LoRA's variant would often make another layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from torch import Tensor

from benchmarks.judge import Judge, Verdict
from clora.engine.composer import Composer, Step
from clora.hosts.diffusers import compose
from clora.lora.library import LoraLibrary, Source
from clora.prompt import analyze
from clora.prompt.evidence import evidence_of_files
from research.world import SIZE

# Used if the model does not draw all things: centres and diameters in pixels, in order of mention.
LAYOUTS: dict[int, tuple[tuple[float, float, float], ...]] = {
    2: ((66, 128, 112), (190, 128, 112)),
    3: ((66, 72, 94), (190, 72, 94), (128, 188, 94)),
}
_LAYOUT = 0.3  # part of the steps in which the base alone counts
_MARGIN = 1.15  # width of a box relative to the thing in it

Circle = tuple[float, float, float]
"""Centre x, y and diameter in pixels."""


def circles_of(kinds: Sequence[str], verdict: Verdict) -> Sequence[Circle]:
    """A circle for each class in order of mention; things of one class from left to right."""
    left = sorted(verdict.things, key=lambda thing: thing.x)
    circles: list[Circle] = []
    for kind in kinds:
        thing = next((thing for thing in left if thing.kind == kind), None)
        if thing is None:
            return LAYOUTS[len(kinds)]
        left.remove(thing)
        circles.append((thing.x, thing.y, thing.diameter))
    return circles


def box_masks(circles: Sequence[Circle], size: int) -> Tensor:
    """Masks (1 + concepts, size, size), the base's first, which is 1 outside all boxes.

    Where boxes overlap, the one with the nearer centre counts.
    """
    axis = (torch.arange(size) + 0.5) * SIZE / size
    masks = torch.zeros(1 + len(circles), size, size)
    near = torch.stack([torch.hypot(axis[None] - x, axis[:, None] - y) / d for x, y, d in circles])
    for number, (x, y, diameter) in enumerate(circles):
        half = _MARGIN * diameter / 2
        inside = ((axis[None] - x).abs() <= half) & ((axis[:, None] - y).abs() <= half)
        masks[1 + number] = inside & (near.argmin(0) == number)
    masks[0] = masks[1:].sum(0) == 0
    return masks


def compose_in_boxes(
    pipe: Any, judge: Judge, text: str, seeds: Sequence[int], *, loras: Source, steps: int, **sampling: Any
) -> list[Image.Image]:
    """Pictures of one prompt as `clora.compose` makes them, except for the masks; seeds are consecutive."""
    composition = analyze(text, evidence=evidence_of_files(LoraLibrary(loras).path))
    kinds = [concept.words.split()[-1] for concept in composition.concepts]
    sampling |= {"loras": loras, "steps": steps, "seed": seeds[0]}
    around = (*composition.styles, *composition.background)  # these belong to the base too
    plain = composition.text + "".join(f"<lora:{use.name}:{use.unet:g}:role=style>" for use in around)
    drawn = compose(pipe, [plain] * len(seeds), **sampling).images
    size = int(pipe.unet.config.sample_size)
    masks = [box_masks(circles_of(kinds, verdict), size) for verdict in judge(drawn)]
    with given(masks, round(_LAYOUT * steps)):
        return compose(pipe, [text] * len(seeds), **sampling).images


@contextmanager
def given(masks: Sequence[Tensor], first: int) -> Iterator[None]:
    """Inside this block, composers use these masks (V, h, w), one per image, from step `first` on; before, the base."""
    own = Composer.predict
    base = [torch.zeros_like(mask) for mask in masks]
    for mask in base:
        mask[0] = 1.0

    def predict(self: Composer, index: int, *arguments: Any, **named: Any) -> Step:
        return own(self, index, *arguments, **{**named, "masks": base if index < first else masks})

    with patch.object(Composer, "predict", predict):
        yield
