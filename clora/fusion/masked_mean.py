"""Masks + the variants' predictions -> one prediction (paper section 3.3), and guidance after it."""

from __future__ import annotations

import torch
from torch import Tensor


def fuse(predictions: Tensor, masks: Tensor) -> Tensor:
    """Masked mean of predictions (V, C, h, w) with masks (V, h, w) -> (C, h, w).

    Overlapping masks average; every place must be covered by at least one mask. Holds for noise, velocity and
    denoised predictions alike, which differ by an affine map all variants share. Source: paper equation 5.
    """
    weights = masks.to(predictions.dtype)[:, None]
    # A prediction outside its mask must not count even where it is not finite: 0 * inf would be NaN.
    masked = torch.where(weights > 0, predictions * weights, torch.zeros_like(predictions))
    return masked.sum(dim=0) / weights.sum(dim=0)


def guide(uncond: Tensor, cond: Tensor, scale: float, rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance on (B, C, h, w); `rescale` in [0, 1] restores the conditional's spread per image.

    Source of the rescale: Lin et al. 2023, section 3.4.
    """
    guided = uncond + scale * (cond - uncond)
    if rescale > 0.0:
        dims = list(range(1, cond.ndim))
        restored = guided * (cond.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True))
        guided = rescale * restored + (1.0 - rescale) * guided
    return guided
