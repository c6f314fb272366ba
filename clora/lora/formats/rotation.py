"""Rotations of a layer's input features, W' = W R^T: OFT and BOFT as PEFT and OneTrainer train them, and HRA.

(kohya and LyCORIS rotate the output channels: orthogonal.py.) A linear layer and a 1x1 convolution turn the activation;
larger kernels turn the weight, whose features are then channels times kernel positions.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from .base import Before, Delta, Move, Reading, Tensors, check_shapes
from .layer import Casts, Layer

_MAX_TERMS = 64


class InputRotation(Delta):
    """W + s (g W' - W) with W' the weight whose rows (flat input features) are turned, g a gain per output or 1."""

    turns_back = True
    """Whether the weight's rows are multiplied with R^T (and the activations with R), or the other way round."""

    def __init__(self, layer: Layer, strength: float, gain: Tensor | None = None) -> None:
        super().__init__(layer, strength)
        check_shapes(layer.kind != "norm" and not layer.grouped)
        check_shapes(gain is None or gain.numel() == layer.shape[0])
        self._gain = None if gain is None else gain.reshape(-1)
        self._features = torch.Size(layer.shape[1:]).numel()
        self._casts = Casts()

    @abstractmethod
    def prepare(self, move: Move) -> tuple[Tensor, ...]:
        """What `turn` needs, in the working dtype."""

    @abstractmethod
    def turn(self, z: Tensor, parts: tuple[Tensor, ...], back: bool) -> Tensor:
        """z (..., features) times R, or times R^T."""

    def _made(self, move: Move) -> tuple[Tensor, ...]:
        gain = self._gain if self._gain is not None else torch.ones(self.layer.shape[0])
        return move(gain), *self.prepare(move)

    def forward(self, x: Tensor, y: Tensor, before: Before) -> Tensor:
        """y + s (g f(R x) - f(x)), or through the changed weight for larger kernels."""
        if self._features != self.layer.shape[1]:
            (diff,) = before.remember(y, lambda move, weight: (self.merge(weight) - weight,))
            return y + self.layer.apply(x, diff)
        gain, *parts = self._casts.get(y, self._made)
        axis = self.layer.channel_axis
        turned = self.turn(x.movedim(axis, -1), tuple(parts), not self.turns_back).movedim(-1, axis)
        full = before.linear(turned) * self.layer.per_channel(gain, y)
        return torch.add(y, full - before.without_bias(y), alpha=self.strength)

    def merge(self, weight: Tensor) -> Tensor:
        """W + s (g W' - W)."""
        gain, *parts = self._made(lambda tensor: tensor.to(weight))
        turned = self.turn(weight.flatten(1), tuple(parts), self.turns_back) * gain[:, None]
        return torch.lerp(weight, turned.reshape(weight.shape), self.strength)


class PeftOFT(InputRotation):
    """`oft_R` (blocks or 1, n): the n = b (b - 1) / 2 numbers above the diagonal of each block's skew matrix."""

    needs = frozenset({"oft_R"})
    keys = frozenset({"oft_R", "scaled_oft"})

    def __init__(self, layer: Layer, tensors: Tensors, how: Reading) -> None:
        super().__init__(layer, how.strength)
        vectors = tensors["oft_R"]
        check_shapes(vectors.ndim == 2)
        self._size = math.isqrt(1 + 8 * vectors.shape[1]) // 2 + 1
        count = self._features // self._size
        check_shapes(self._size * (self._size - 1) == 2 * vectors.shape[1] and count * self._size == self._features)
        check_shapes(vectors.shape[0] in (1, count))
        self._vectors, self._count = vectors, count
        terms, limit = how.options.get("num_cayley_neumann_terms"), how.options.get("eps")
        self._terms = min(terms, _MAX_TERMS) if isinstance(terms, int) else 5
        if how.options.get("use_cayley_neumann") is False:
            self._terms = 0
        self._limit = None
        if how.options.get("coft") is True:
            self._limit = (limit if isinstance(limit, float) else 6e-5) / math.sqrt(vectors.shape[0])
        scaled = "scaled_oft" in tensors and bool(tensors["scaled_oft"].any())
        self._divisor = 2 * math.sqrt(self._size - 1) if scaled else 1.0
        # OneTrainer turns a convolution's weight the other way round than PEFT.
        self.turns_back = layer.kind == "linear" or how.options.get("is_peft", False) is True

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module; alpha and rank are not used."""
        return cls(layer, tensors, how)

    def prepare(self, move: Move) -> tuple[Tensor, ...]:
        """R (blocks or 1, b, b), by Cayley's transform or its Neumann series."""
        vectors, size = move(self._vectors) / self._divisor, self._size
        skew = vectors.new_zeros(vectors.shape[0], size, size)
        rows, columns = torch.triu_indices(size, size, 1, device=vectors.device)
        skew[:, rows, columns] = vectors
        skew = self._constrained(skew - skew.transpose(-1, -2))
        eye = torch.eye(size, dtype=skew.dtype, device=skew.device).expand_as(skew)
        if self._terms == 0:
            return (torch.linalg.solve(eye + skew, eye - skew, left=False),)
        return (_neumann(skew, eye, self._terms),)

    def _constrained(self, skew: Tensor) -> Tensor:
        """COFT: the norm of each block is at most eps / sqrt(blocks)."""
        if self._limit is None:
            return skew
        norm = skew.flatten(1).norm(dim=1)[:, None, None]
        return torch.where(norm <= self._limit, skew, self._limit * skew / norm)

    def turn(self, z: Tensor, parts: tuple[Tensor, ...], back: bool) -> Tensor:
        """Every block of features times its R."""
        blocks = z.reshape(*z.shape[:-1], self._count, self._size)
        rotation = (parts[0].transpose(-1, -2) if back else parts[0]).expand(self._count, -1, -1)
        return torch.einsum("...rk,rkc->...rc", blocks, rotation).flatten(-2)


def _neumann(skew: Tensor, eye: Tensor, terms: int) -> Tensor:
    """PEFT's series of (I + Q)(I - Q)^-1: I + 2Q + 2Q^2 + ... with a last term that counts once."""
    rotation, power = eye, skew
    if terms > 1:
        rotation = rotation + 2 * skew
    if terms > 2:
        power = skew @ skew
        rotation = rotation + 2 * power
        for _ in range(3, terms - 1):
            power = power @ skew
            rotation = rotation + 2 * power
        rotation = rotation + power @ skew
    return rotation


class PeftBOFT(InputRotation):
    """`boft_R` (stages, blocks, b, b), butterfly stages of Cayley rotations, and the gain `boft_s` (out, 1)."""

    needs = frozenset({"boft_R"})
    keys = frozenset({"boft_R", "boft_s"})

    def __init__(self, layer: Layer, strength: float, blocks: Tensor, gain: Tensor | None) -> None:
        super().__init__(layer, strength, gain)
        check_shapes(blocks.ndim == 4 and blocks.shape[-1] == blocks.shape[-2])
        check_shapes(blocks.shape[1] * blocks.shape[2] == self._features)
        stages, size = blocks.shape[0], blocks.shape[-1]
        check_shapes(stages == 1 or (size % 2 == 0 and self._features % (size * 2 ** (stages - 1)) == 0))
        self._blocks = blocks
        self._orders = [_butterfly(self._features, size, stage) for stage in range(stages)] if stages > 1 else [None]

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module; alpha and rank are not used."""
        return cls(layer, how.strength, tensors["boft_R"], tensors.get("boft_s"))

    def prepare(self, move: Move) -> tuple[Tensor, ...]:
        """The rotation blocks of every stage, (stages, blocks, b, b)."""
        blocks = move(self._blocks)
        skew = 0.5 * (blocks - blocks.transpose(-1, -2))
        eye = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device).expand_as(skew)
        return (torch.linalg.solve(eye + skew, eye - skew, left=False),)

    def turn(self, z: Tensor, parts: tuple[Tensor, ...], back: bool) -> Tensor:
        """The stages one after the other, the last one first for R."""
        (rotations,) = parts
        count, size = rotations.shape[1:3]
        stages = range(len(self._orders)) if back else reversed(range(len(self._orders)))
        for stage in stages:
            order, rotation = self._orders[stage], rotations[stage]
            if order is not None:
                z = z[..., torch.argsort(order).to(z.device)]
            blocks = z.reshape(*z.shape[:-1], count, size)
            rotation = rotation.transpose(-1, -2) if back else rotation
            z = torch.einsum("...rk,rkc->...rc", blocks, rotation).flatten(-2)
            if order is not None:
                z = z[..., order.to(z.device)]
        return z


def _butterfly(features: int, size: int, stage: int) -> Tensor:
    """Order of the features at a stage: in every group of size * 2**stage, even pieces of size/2 before odd ones."""
    pieces = torch.arange(features).reshape(-1, 2**stage, 2, size // 2)
    return pieces.transpose(1, 2).reshape(-1)


class HRA(InputRotation):
    """`hra_u` (features, r): W H with H the product of r Householder reflections (arXiv 2405.17484)."""

    needs = frozenset({"hra_u"})
    keys = frozenset({"hra_u"})
    turns_back = False

    def __init__(self, layer: Layer, strength: float, vectors: Tensor, orthogonal: bool) -> None:
        super().__init__(layer, strength)
        check_shapes(vectors.ndim == 2 and vectors.shape[0] == self._features)
        self._vectors, self._orthogonal = vectors, orthogonal

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module; `apply_GS` makes the reflections orthogonal."""
        return cls(layer, how.strength, tensors["hra_u"], how.options.get("apply_GS") is True)

    def prepare(self, move: Move) -> tuple[Tensor, ...]:
        """U and V, (features, r) each, with H = I - V U^T (compact WY form)."""
        vectors = move(self._vectors)
        if self._orthogonal:
            vectors = torch.linalg.qr(vectors)[0]
        vectors = vectors / vectors.norm(dim=0)
        inverse = torch.triu(vectors.T @ vectors, 1) + 0.5 * torch.eye(vectors.shape[1]).to(vectors)
        return vectors, torch.linalg.solve(inverse, vectors, left=False)

    def turn(self, z: Tensor, parts: tuple[Tensor, ...], back: bool) -> Tensor:
        """z H, or z H^T."""
        right, left = reversed(parts) if back else parts
        return z - (z @ left) @ right.T
