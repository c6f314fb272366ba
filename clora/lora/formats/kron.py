"""LoKr: a Kronecker product (KronA, arXiv 2212.10650; LyCORIS)."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Additive, Delta, Move, Reading, Tensors, check_shapes
from .layer import Layer


class LoKr(Additive):
    """kron(w1, w2): w1 (a, c), w2 (b, d, *kernel) with a*b = out, c*d = in; either may be a product of two factors.

    On activations, x is viewed as (c, d) channels: w2 acts on d, then w1 mixes the c groups. dW is never built.
    """

    needs = frozenset()
    keys = frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "alpha"})

    def __init__(self, layer: Layer, strength: float, tensors: Tensors, scale: float, dyn: int | None) -> None:
        super().__init__(layer, strength)
        check_shapes(
            layer.kind != "norm" and all(t.ndim >= 2 for key, t in tensors.items() if key in self.keys - {"alpha"})
        )
        self._tensors, self._scale, self._dyn = dict(tensors), scale, dyn
        t = self._tensors
        a, c = t["lokr_w1"].shape[:2] if "lokr_w1" in t else (t["lokr_w1_a"].shape[0], t["lokr_w1_b"].shape[1])
        check_shapes(layer.shape[0] % a == 0 and layer.shape[1] % c == 0)
        self._inner = (layer.shape[0] // a, layer.shape[1] // c, *layer.shape[2:])
        self._groups = (a, c)
        self._check()

    def _check(self) -> None:
        t, (b, d) = self._tensors, self._inner[:2]
        if "lokr_w1" not in t:
            check_shapes(t["lokr_w1_a"].ndim == 2 and t["lokr_w1_b"].ndim == 2)
            check_shapes(t["lokr_w1_a"].shape[1] == t["lokr_w1_b"].shape[0])
        check_shapes("lokr_w1" not in t or t["lokr_w1"].numel() == self._groups[0] * self._groups[1])
        if "lokr_w2" in t:
            check_shapes(t["lokr_w2"].numel() == torch.Size(self._inner).numel())
            check_shapes(t["lokr_w2"].shape[0] == b)
        elif "lokr_t2" in t:  # w2_a (rank, b), w2_b (rank, d), t2 (rank, rank, *kernel)
            w2_a, w2_b = t["lokr_w2_a"], t["lokr_w2_b"]
            check_shapes(w2_a.shape[1:] == (b,) and w2_b.shape[1:] == (d,))
            check_shapes(t["lokr_t2"].shape == (w2_a.shape[0], w2_b.shape[0], *self._inner[2:]))
        else:
            check_shapes(t["lokr_w2_a"].shape == (b, t["lokr_w2_b"].shape[0]))
            check_shapes(t["lokr_w2_b"].shape[1:].numel() == torch.Size(self._inner[1:]).numel())

    @classmethod
    def reads(cls, tensors: Tensors) -> bool:
        """True if both halves are present, whole or as a product."""
        return all(f"lokr_w{n}" in tensors or {f"lokr_w{n}_a", f"lokr_w{n}_b"} <= tensors.keys() for n in (1, 2))

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module; if both halves are whole there is no rank, and the scale is 1."""
        # PEFT scales by the rank of its settings; for LyCORIS two whole halves have no rank.
        scale = float(how.options.get("configured_scale", 1.0))
        if "lokr_w1" not in tensors:
            scale = how.scale_of(tensors["lokr_w1_b"].shape[0])
        elif "lokr_w2" not in tensors:
            scale = how.scale_of(tensors["lokr_w2_b"].shape[0])
        return cls(layer, how.strength, tensors, scale, how.dyn)

    def _halves(self, move: Move) -> tuple[Tensor, Tensor]:
        """(w1 times the scale, w2), each multiplied out: both are small compared with dW."""
        t, dyn = self._tensors, self._dyn
        if "lokr_w1" in t:
            w1 = move(t["lokr_w1"]).reshape(self._groups)
        else:
            w1 = move(t["lokr_w1_a"])[:, :dyn] @ move(t["lokr_w1_b"])[:dyn]
        if "lokr_w2" in t:
            w2 = move(t["lokr_w2"])
        elif "lokr_t2" in t:
            core, w2_a, w2_b = move(t["lokr_t2"]), move(t["lokr_w2_a"]), move(t["lokr_w2_b"])
            w2 = torch.einsum("ij...,ip,jr->pr...", core[:dyn, :dyn], w2_a[:dyn], w2_b[:dyn])
        else:
            w2 = move(t["lokr_w2_a"])[:, :dyn] @ move(t["lokr_w2_b"]).flatten(1)[:dyn]
        return w1 * self._scale, w2.reshape(self._inner)

    def change(self, x: Tensor) -> Tensor:
        """w1 X w2^T with X the activation as (c, d) channels."""
        if self.layer.grouped:
            return super().change(x)
        w1, w2 = self._casts.get(x, self._halves)
        c, d = self._groups[1], self._inner[1]
        if self.layer.kind == "linear":
            inner = self.layer.apply(x.reshape(*x.shape[:-1], c, d), w2)
            return torch.einsum("ac,...cb->...ab", w1, inner).flatten(-2)
        inner = self.layer.apply(x.reshape(x.shape[0] * c, d, *x.shape[2:]), w2)
        inner = inner.reshape(x.shape[0], c, *inner.shape[1:])
        return torch.einsum("ac,nc...->na...", w1, inner).flatten(1, 2)

    def weight(self, move: Move) -> Tensor:
        """kron(w1, w2) with w1 repeated over the kernel."""
        w1, w2 = self._halves(move)
        return torch.kron(w1.reshape(*w1.shape, *[1] * (w2.ndim - 2)), w2.contiguous())
