"""The variants' predictions, fused by masks (paper section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(predictions: Tensor, masks: Tensor) -> Tensor:
    """Masked mean of predictions (V, C, h, w) with masks (V, h, w) -> (C, h, w).

    Overlapping masks average; every cell must be covered by at least one mask. Holds for noise, velocity and
    denoised predictions alike, which differ by an affine map all variants share. Source: paper equation 5.
    """
    weights = masks.to(predictions.dtype)[:, None]
    # A prediction outside its mask must not count even where it is not finite: 0 * inf would be NaN.
    masked = torch.where(weights > 0, predictions * weights, torch.zeros_like(predictions))
    return masked.sum(dim=0) / weights.sum(dim=0)
