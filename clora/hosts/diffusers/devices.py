"""On which device a module of a pipeline computes, wherever its weights are kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def compute_device(module: Any) -> torch.device:
    """The device that a module's forward wants its inputs on.

    Offloading keeps weights on the CPU between forwards: accelerate's hooks and diffusers' group offloading say where
    they bring them. Without either it is where the weights are.
    """
    for child in module.modules():
        device = getattr(getattr(child, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        group = _group_hook(child)
        if group is not None:
            return torch.device(group.group.onload_device)
    return torch.device(module.device)


def _group_hook(module: nn.Module) -> Any:
    registry = getattr(module, "_diffusers_hook", None)
    return None if registry is None else registry.get_hook("group_offloading")
