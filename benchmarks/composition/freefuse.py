"""The method "FreeFuse": masks without a gradient, then all steps from the same noise with these masks.

Its mechanism as published (Liu et al. 2025, arXiv 2510.23515), on Stable Diffusion's UNet instead of a transformer:
a few steps of the base alone give each concept's map; masks grow from the maps' strongest cells over cells with like
self-attention; the picture is drawn in one pass per step, every LoRA inside its mask. The paper's figures are for
other models, and what it does with the background is not stated here: cells that no concept claims are the base's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from clora.hosts.diffusers import compose
from clora.lora.library import Source
from clora.settings import Settings

from .boxes import given
from .layout import Layout, base_layouts

UNTIL = 0.2  # part of the steps that the base draws for the masks: 5 of 28 in the paper
ANCHORS = 0.1  # part of the cells that are sure, for each concept
ROUNDS, MOMENTUM = 15, 0.2
CLAIM = 0.4  # part of its range above which a concept's spread score claims a cell


def balanced_masks(layout: Layout, size: tuple[int, int]) -> Tensor:
    """Masks (1 + N, h, w) of 0 and 1 at the latent's `size`, the base's first, from one picture's layout."""
    spread = _spread(_scores(layout.maps), layout.features)
    settled = _settled(spread)
    low, high = spread.amin((1, 2), keepdim=True), spread.amax((1, 2), keepdim=True)
    claimed = (spread - low) / (high - low).clamp_min(1e-12) > CLAIM
    enlarged = [F.interpolate(part[None], size, mode="bilinear")[0] for part in (settled, claimed.float())]
    winner, claims = enlarged[0].argmax(0), enlarged[1] > 0.5
    masks = torch.stack([(winner == concept) & claims[concept] for concept in range(len(claims))]).float()
    return torch.cat([1 - masks.sum(0, keepdim=True), masks])


def _scores(maps: Tensor) -> Tensor:
    """n times the own map minus the sum of the others', (N, h, w); each map is relative to its sum over places."""
    own = maps / maps.sum((1, 2), keepdim=True).clamp_min(1e-12)
    return len(own) * own - (own.sum(0, keepdim=True) - own)


def _spread(scores: Tensor, features: Tensor) -> Tensor:
    """Scores (N, h, w) spread from the best tenth of the cells to all, by how alike cells are in self-attention."""
    count, height, width = scores.shape
    centred = F.normalize(features - features.mean(0), dim=1)
    alike = (centred @ centred.T).clamp_min(0)
    alike = alike / alike.sum(1, keepdim=True).clamp_min(1e-12)
    flat = scores.flatten(1)
    anchors = flat.topk(max(1, round(ANCHORS * flat.shape[1])), dim=1).indices
    found = [alike[:, index].sum(1) for index in anchors]
    return torch.stack(found).view(count, height, width)


def _settled(spread: Tensor) -> Tensor:
    """Scores (N, h, w) after rounds in which cells vote with their neighbours, are drawn to their concept's centre,
    and concepts of few cells gain."""
    count, height, width = spread.shape
    scores = spread / spread.amax((1, 2), keepdim=True).clamp_min(1e-12)
    start, bias = scores.clone(), torch.zeros(count, 1, 1)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    for _ in range(ROUNDS):
        won = F.one_hot((scores + bias).argmax(0), count).movedim(-1, 0).float()
        votes = F.avg_pool2d(won[None], 3, 1, 1, count_include_pad=False)[0]
        weights = start * won + 1e-6
        centres = [(weights * axis).sum((1, 2), keepdim=True) / weights.sum((1, 2), keepdim=True) for axis in (x, y)]
        near = torch.exp(-((x - centres[0]) ** 2 + (y - centres[1]) ** 2))
        bias = bias + MOMENTUM * (1 / count - won.mean((1, 2), keepdim=True))
        scores = (1 - MOMENTUM) * scores + MOMENTUM * (start + votes + near) / 3
    return scores + bias


def compose_freefuse(
    pipe: Any, text: str, seeds: Sequence[int], *, loras: Source, steps: int, guidance: float, settings: Settings
) -> list[Image.Image]:
    """Pictures of one prompt; `seeds` are consecutive, `settings` fuse in a single pass without updates."""
    until = max(1, round(UNTIL * steps))
    layouts = base_layouts(pipe, text, seeds, loras=loras, steps=steps, guidance=guidance, until=until)
    size = int(pipe.unet.config.sample_size)
    masks = [balanced_masks(layout, (size, size)) for layout in layouts]
    with given(masks, 0):
        return compose(
            pipe, [text] * len(seeds), loras=loras, steps=steps, guidance=guidance, seed=seeds[0], settings=settings
        ).images
