"""OFT as PEFT trained it before 0.15: square matrices `oft_r` (blocks or 1, b, b), of which the skew part counts.

PEFT 0.12 to 0.14 rotate the input features and have a gain `oft_s` (out, 1); before 0.12 PEFT rotated the outputs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Delta, Reading, Tensors, check_shapes
from .layer import Layer
from .orthogonal import OFT
from .rotation import PeftBOFT

_EPS = 6e-5  # PEFT's default


class OldPeftOFT:
    """Reads both kinds as the format that computes the same: one butterfly stage of BOFT, or an OFT of the outputs."""

    needs = frozenset({"oft_r"})
    keys = frozenset({"oft_r", "oft_s"})

    @classmethod
    def reads(cls, tensors: Tensors) -> bool:
        """True if there is an `oft_r`."""
        return cls.needs <= tensors.keys()

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module; alpha and rank are not used."""
        blocks, gain = tensors["oft_r"], tensors.get("oft_s")
        check_shapes(blocks.ndim == 3 and layer.kind != "norm")
        features = layer.shape[0] if gain is None else torch.Size(layer.shape[1:]).numel()
        size = blocks.shape[-1]
        check_shapes(features % size == 0 and blocks.shape[0] in (1, features // size))
        blocks = _constrained(blocks, features // size, layer, how).expand(features // size, -1, -1)
        if gain is not None:
            return PeftBOFT(layer, how.strength, blocks[None], gain)
        # (I - S)(I + S)^-1 with S half of the skew part, where OFT's is (I + Q)(I - Q)^-1 with Q the whole of it.
        return OFT(layer, how.strength, -0.5 * blocks, None, None)


def _constrained(blocks: Tensor, count: int, layer: Layer, how: Reading) -> Tensor:
    """COFT: the norm of each block is at most eps times the squared width of a block of outputs, over sqrt(blocks)."""
    if how.options.get("coft") is not True:
        return blocks
    eps = how.options.get("eps")
    width = math.ceil(layer.shape[0] / count)
    limit = (eps if isinstance(eps, float) else _EPS) * width**2 / math.sqrt(blocks.shape[0])
    norm = blocks.float().flatten(1).norm(dim=1)[:, None, None]
    return torch.where(norm <= limit, blocks, (limit * blocks / norm).to(blocks))
