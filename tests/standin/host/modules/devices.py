"""Where and in which dtype the host computes; float64 on the CPU, so that two ways of one calculation end alike."""

from __future__ import annotations

import torch

device = torch.device("cpu")
dtype = torch.float64


def latent_dtype() -> torch.dtype:
    """Of latents and noise levels, which stay wide where the model is narrow."""
    return torch.promote_types(dtype, torch.float32)
