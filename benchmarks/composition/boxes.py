"""The upper bound: masks given instead of found, a box for each concept.

Boxes at fixed places fight what a seed's noise is about to become, and lose. So boxes are where the model without the
subjects' LoRAs puts a thing of the class with the same prompt and seed, which the judge finds, and the base alone lays
the picture out in the first steps: a LoRA's variant would often lay out another one.
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
from research.world import SIZE

# Where the model does not draw all things: centres and diameters in pixels, from left to right in order of mention.
LAYOUTS: dict[int, tuple[tuple[float, float, float], ...]] = {
    2: ((66, 128, 112), (190, 128, 112)),
    3: ((66, 72, 94), (190, 72, 94), (128, 188, 94)),
}
_LAYOUT = 0.3  # part of the steps that are the base's alone
_ROOM = 1.15  # a box is so much wider than the thing in it

Place = tuple[float, float, float]


def places_of(kinds: Sequence[str], verdict: Verdict) -> Sequence[Place]:
    """Centre and diameter for each class in order of mention; things of one class from left to right."""
    left = sorted(verdict.things, key=lambda thing: thing.x)
    places: list[Place] = []
    for kind in kinds:
        thing = next((thing for thing in left if thing.kind == kind), None)
        if thing is None:
            return LAYOUTS[len(kinds)]
        left.remove(thing)
        places.append((thing.x, thing.y, thing.diameter))
    return places


def box_masks(places: Sequence[Place], size: int) -> Tensor:
    """Masks (1 + concepts, size, size), the base's first: 1 where no box is. Where boxes meet, the nearer one's."""
    axis = (torch.arange(size) + 0.5) * SIZE / size
    masks = torch.zeros(1 + len(places), size, size)
    near = torch.stack([torch.hypot(axis[None] - x, axis[:, None] - y) / d for x, y, d in places])
    for number, (x, y, diameter) in enumerate(places):
        half = _ROOM * diameter / 2
        inside = ((axis[None] - x).abs() <= half) & ((axis[:, None] - y).abs() <= half)
        masks[1 + number] = inside & (near.argmin(0) == number)
    masks[0] = masks[1:].sum(0) == 0
    return masks


def compose_in_boxes(
    pipe: Any, judge: Judge, text: str, seeds: Sequence[int], *, loras: Source, steps: int, **sampling: Any
) -> list[Image.Image]:
    """Pictures of one prompt as `clora.compose` makes them, but for the masks; seeds are consecutive."""
    composition = analyze(text, activation_text=LoraLibrary(loras).trigger_phrases)
    kinds = [concept.words.split()[-1] for concept in composition.concepts]
    sampling |= {"loras": loras, "steps": steps, "seed": seeds[0]}
    around = (*composition.styles, *composition.background)  # these belong to the base too
    plain = composition.text + "".join(f"<lora:{use.name}:{use.unet:g}:role=style>" for use in around)
    drawn = compose(pipe, [plain] * len(seeds), **sampling).images
    size = int(pipe.unet.config.sample_size)
    masks = [box_masks(places_of(kinds, verdict), size) for verdict in judge(drawn)]
    with given(masks, round(_LAYOUT * steps)):
        return compose(pipe, [text] * len(seeds), **sampling).images


@contextmanager
def given(masks: Sequence[Tensor], first: int) -> Iterator[None]:
    """Composers inside this block use these masks (V, h, w), one per image, from step `first`; before, the base."""
    own = Composer.predict
    base = [torch.zeros_like(mask) for mask in masks]
    for mask in base:
        mask[0] = 1.0

    def predict(self: Composer, index: int, *arguments: Any, **named: Any) -> Step:
        return own(self, index, *arguments, **{**named, "masks": base if index < first else masks})

    with patch.object(Composer, "predict", predict):
        yield
