"""Look guidance: LoRAs count less in the unconditional prediction, so guidance strengthens their looks, too.

Guidance s extrapolates from the unconditional prediction u to the conditional one c: u + s (c - u). A change D that a
LoRA makes to both comes out once, whatever s is. If the unconditional one has only the share r of it, D comes out
s - (s - 1) r times. The setting names this factor, so that it means the same at every guidance scale. The idea is that
of autoguidance (Karras et al., arXiv 2406.02507): guide away from what the same model draws without what is wanted.
"""

from __future__ import annotations

import torch
from torch import Tensor


def unconditional_share(look_guidance: float, scale: float) -> float:
    """r, 0 to 1: how much of the LoRAs the unconditional prediction has, for guidance `scale`.

    1 without guidance (a scale of 1 or less), and where `look_guidance` is 1; 0 from `look_guidance` = `scale` on.
    """
    if scale <= 1.0:
        return 1.0
    return min(1.0, max(0.0, (scale - look_guidance) / (scale - 1.0)))


def weakened(weights: Tensor, share: float) -> Tensor:
    """Weights (V, h, w) of the variants with the concepts' times `share`; the base, variant 0, has the rest."""
    if share == 1.0 or len(weights) == 1:
        return weights
    others = share * weights[1:] / weights.sum(dim=0)
    return torch.cat([1.0 - others.sum(dim=0, keepdim=True), others])
