"""OFT (arXiv 2306.07280) and BOFT (arXiv 2311.06243): rotations of the output channels, W' = R W.

Both act on the bias-free output. Files: kohya OFT and LyCORIS diag-oft (`oft_blocks`, three axes, Cayley
parameters), old LyCORIS (`oft_diag`, R itself), LyCORIS BOFT (`oft_blocks`, four axes: butterfly stages).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Before, Delta, Move, Reading, Tensors, check_shapes
from .layer import Casts, Layer


class OFT(Delta):
    """Block-diagonal rotation, interpolated linearly by the strength s as in the WebUI: W + s (rescale R W - W)."""

    needs = frozenset()
    keys = frozenset({"oft_blocks", "oft_diag", "rescale", "alpha"})
    axes = 3

    def __init__(
        self,
        layer: Layer,
        strength: float,
        blocks: Tensor,
        rescale: Tensor | None,
        limit: float | None,
        cayley: bool = True,
    ) -> None:
        """blocks (number, size, size); rescale (out,); limit: the largest norm of the skew matrices, None: no limit."""
        super().__init__(layer, strength)
        check_shapes(layer.kind != "norm" and blocks.ndim == self.axes and blocks.shape[-1] == blocks.shape[-2])
        check_shapes(blocks.shape[-3] * blocks.shape[-1] == layer.shape[0])
        check_shapes(rescale is None or rescale.numel() == layer.shape[0])
        self._blocks, self._limit, self._cayley = blocks, limit, cayley
        self._rescale = None if rescale is None else rescale.reshape(-1)
        self._casts = Casts()

    @classmethod
    def reads(cls, tensors: Tensors) -> bool:
        """True for blocks of this class's number of axes."""
        blocks = tensors.get("oft_blocks", tensors.get("oft_diag"))
        return blocks is not None and blocks.ndim == cls.axes

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module; `alpha` times the width is the limit here; no alpha or 0 means no limit."""
        alpha = float(tensors["alpha"].reshape(-1)[0]) if "alpha" in tensors and tensors["alpha"].numel() else 0.0
        cayley = "oft_blocks" in tensors
        blocks = tensors["oft_blocks" if cayley else "oft_diag"]
        limit = alpha * layer.shape[0] if alpha > 0 and cayley else None
        return cls(layer, how.strength, blocks, tensors.get("rescale"), limit, cayley)

    def _rotations(self, move: Move) -> Tensor:
        """R (..., number, size, size) = (I + Q)(I - Q)^-1 with Q skew (Cayley)."""
        blocks = move(self._blocks)
        if not self._cayley:
            return blocks
        skew = blocks - blocks.transpose(-1, -2)
        if self._limit is not None:
            norm = skew.norm() + 1e-8
            skew = skew * (self._limit / norm).clamp(max=1.0)
        eye = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
        rotation: Tensor = torch.linalg.solve(eye - skew, eye + skew, left=False)
        return rotation

    def _prepared(self, move: Move) -> tuple[Tensor, ...]:
        return (self._rotations(move), *(() if self._rescale is None else (move(self._rescale),)))

    def _rotate(self, z: Tensor, rotation: Tensor, rescale: Tensor | None) -> Tensor:
        """z (..., out) rotated on its last axis, interpolated by `self.strength`."""
        blocks = z.reshape(*z.shape[:-1], *rotation.shape[:2])
        rotated = torch.einsum("knm,...kn->...km", rotation, blocks).flatten(-2)
        if rescale is not None:
            rotated = rotated * rescale
        return torch.lerp(z, rotated, self.strength)

    def forward(self, x: Tensor, y: Tensor, before: Before) -> Tensor:
        """bias + R (y - bias)."""
        rotation, *rescale = self._casts.get(y, self._prepared)
        bare = before.without_bias(y)
        axis = self.layer.channel_axis
        rotated = self._rotate(bare.movedim(axis, -1), rotation, rescale[0] if rescale else None)
        return y + (rotated.movedim(-1, axis) - bare)

    def merge(self, weight: Tensor) -> Tensor:
        """R W."""
        rotation, *rescale = self._prepared(lambda tensor: tensor.to(weight))
        return self._rotate(weight.movedim(0, -1), rotation, rescale[0] if rescale else None).movedim(-1, 0)


class BOFT(OFT):
    """A product of butterfly stages; the strength interpolates between the identity and each stage, as in LyCORIS.

    The rescale is interpolated too, so that strength 0 means off.
    """

    axes = 4

    def __init__(
        self,
        layer: Layer,
        strength: float,
        blocks: Tensor,
        rescale: Tensor | None,
        limit: float | None,
        cayley: bool = True,
    ) -> None:
        """blocks (stages, number, size, size): stage i mixes channels within size * 2**i."""
        super().__init__(layer, strength, blocks, rescale, limit, cayley)
        check_shapes(
            blocks.shape[-1] % 2 == 0 and layer.shape[0] % (2 ** (blocks.shape[0] - 1) * blocks.shape[-1]) == 0
        )

    def _rotate(self, z: Tensor, rotation: Tensor, rescale: Tensor | None) -> Tensor:
        size, lead = rotation.shape[-1], z.shape[:-1]
        eye = torch.eye(size, dtype=z.dtype, device=z.device)
        for stage, blocks in enumerate(rotation):
            stride = 2**stage * (size // 2)
            # (groups, 2, stride) channels interleaved, so that each block mixes channels of the whole group
            mixed = z.reshape(*lead, -1, 2, stride).transpose(-1, -2).reshape(*lead, -1, size)
            mixed = torch.einsum("kij,...kj->...ki", torch.lerp(eye, blocks, self.strength), mixed)
            z = mixed.reshape(*lead, -1, stride, 2).transpose(-1, -2).reshape(*lead, -1)
        return z if rescale is None else z * (1 + self.strength * (rescale - 1))
