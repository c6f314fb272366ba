"""Draws concepts into the regions that the user asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps
from ..conditioning.plan import ImagePlan
from ..regions.masks import allowed_masks
from ..settings.table import RegionMasks


def region_losses(
    maps: AttentionMaps, plans: Sequence[ImagePlan], how: RegionMasks = "replace", images: Sequence[int] | None = None
) -> Tensor:
    """How far the concepts of each of `images` (all if None) are from their regions, 0 to 1 per concept, summed.

    For a map A and the cells R of the region: (1 - sum of A in R / sum of A) squared, the mean over the maps of the
    concept's group. With `how` "replace", concepts without a region are drawn out of the regions of others.
    Source: Chen et al. 2023, "Training-free layout control", equation 2.
    """
    losses = []
    for image in range(len(plans)) if images is None else images:
        plan = plans[image]
        total = maps.example.new_zeros(())
        allowed = allowed_masks(plan.regions, (maps.example.shape[-2], maps.example.shape[-1]), how)
        for mask, concept in zip(allowed, plan.concepts, strict=False):
            entries = [(v, positions) for v, positions in enumerate(concept.group) if positions]
            if mask is None or not entries or not mask.any():
                continue
            own = torch.cat([maps.of(image, v, positions) for v, positions in entries])
            inside = (own * mask.to(own)).sum(dim=(1, 2))
            total = total + (1 - inside / own.sum(dim=(1, 2))).pow(2).mean()
        losses.append(total)
    return torch.stack(losses)
