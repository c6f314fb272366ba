"""Classifier-free guidance (Ho and Salimans 2022)."""

from __future__ import annotations

from torch import Tensor


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
