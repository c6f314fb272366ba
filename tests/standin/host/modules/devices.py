"""Where the host computes."""

from __future__ import annotations

import torch

device = torch.device("cpu")
