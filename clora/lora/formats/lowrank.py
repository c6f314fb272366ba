"""LoRA and LoCon (arXiv 2106.09685, LyCORIS arXiv 2309.14859): products of low-rank factors; and LoHa."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Additive, Delta, Move, Reading, Tensors, check_shapes
from .layer import Layer


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is if it has float64: narrow types cannot all be multiplied."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


class LowRank(Additive):
    """scale * up @ down; on convolutions the kernel is in `down`, or in `mid` between two 1x1 layers (CP, Tucker)."""

    needs = frozenset({"lora_up", "lora_down"})
    keys = frozenset({"lora_up", "lora_down", "lora_mid", "lora_E", "alpha"})

    def __init__(
        self,
        layer: Layer,
        strength: float,
        down: Tensor,
        up: Tensor,
        mid: Tensor | None,
        scale: float,
        dyn: int | None = None,
    ) -> None:
        """down (rank, in, *kernel) or (rank, in) with mid (rank, rank, *kernel); up (out, rank)."""
        super().__init__(layer, strength)
        check_shapes(layer.kind != "norm" and down.ndim > 1 and up.ndim > 1)
        rank = down.shape[0]
        check_shapes(up.numel() == layer.shape[0] * up.shape[1])
        up = up.reshape(layer.shape[0], -1)
        if mid is None:
            check_shapes(up.shape[1] == rank and down.shape[1:].numel() == torch.Size(layer.shape[1:]).numel())
            down = down.reshape(rank, *layer.shape[1:])
        else:
            check_shapes(down.numel() == rank * layer.shape[1])
            check_shapes(mid.shape == (up.shape[1], rank, *layer.shape[2:]))
            down, mid = down.reshape(rank, -1), mid[:dyn, :dyn]
        self._down, self._up, self._mid, self._scale = down[:dyn], up[:, :dyn], mid, scale

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module, scale = alpha / rank of the file (`dyn` does not change it, as in the WebUI)."""
        down = tensors["lora_down"]
        check_shapes(down.ndim > 1)
        scale = how.scale_of(down.shape[0])
        if "lora_E" in tensors:  # AdaLoRA's singular values (arXiv 2303.10512)
            down = wide(down).flatten(1) * wide(tensors["lora_E"]).reshape(-1, 1)
        return cls(layer, how.strength, down, tensors["lora_up"], tensors.get("lora_mid"), scale, how.dyn)

    def change(self, x: Tensor) -> Tensor:
        """scale * up(down(x)), or scale * up(mid(down(x)))."""
        if self.layer.grouped:
            return super().change(x)
        layer = self.layer
        down, up, *mid = self._casts.get(x, self._factors)
        z = layer.apply(layer.pointwise(x, down), mid[0]) if mid else layer.apply(x, down)
        # The scale acts on the low-rank activation: it is small, and no small factor is rounded to 0 in fp16.
        return layer.pointwise(z if self._scale == 1 else z * self._scale, up)

    def low_rank_factors(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Both factors; None if there is a core between them."""
        if self._mid is not None or self.layer.grouped:
            return None
        down, up = self._casts.get(like, self._factors)
        return down, up * (self.strength * self._scale)

    def _factors(self, move: Move) -> tuple[Tensor, ...]:
        factors = (self._down, self._up, *(() if self._mid is None else (self._mid,)))
        return tuple(move(factor) for factor in factors)

    def weight(self, move: Move) -> Tensor:
        """scale * up @ down."""
        down, up, *mid = self._factors(move)
        if mid:
            return self._scale * torch.einsum("mn...,om,ni->oi...", mid[0], up, down)
        return self._scale * (up @ down.flatten(1)).reshape(self.layer.shape)


class VeRA(LowRank):
    """diag(b) B diag(d) A with random A, B that all layers share (arXiv 2310.11454), each cut to the layer's size."""

    needs = frozenset({"vera_lambda_b", "vera_lambda_d", "vera_A", "vera_B"})
    keys = needs

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module; there is no alpha."""
        by_out, by_rank = wide(tensors["vera_lambda_b"]), wide(tensors["vera_lambda_d"])
        shared_down, shared_up = wide(tensors["vera_A"]), wide(tensors["vera_B"])
        check_shapes(layer.kind == "linear" and by_out.shape == layer.shape[:1] and by_rank.ndim == 1)
        down = by_rank[:, None] * shared_down[: len(by_rank), : layer.shape[1]]
        up = by_out[:, None] * shared_up[: layer.shape[0], : len(by_rank)]
        return cls(layer, how.strength, down, up, None, 1.0, how.dyn)


class LoHa(Additive):
    """(w1_a @ w1_b) * (w2_a @ w2_b), a Hadamard product (FedPara, arXiv 2108.06098).

    It equals a plain low-rank product of rank r1 * r2 (row-wise Khatri-Rao), which is used if it costs less than dW.
    """

    needs = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
    keys = needs | {"hada_t1", "hada_t2", "alpha"}

    def __init__(self, layer: Layer, strength: float, tensors: Tensors, scale: float, dyn: int | None) -> None:
        super().__init__(layer, strength)
        check_shapes(layer.kind != "norm" and all(tensors[key].ndim >= 2 for key in self.needs))
        self._scale = scale
        self._tucker = "hada_t1" in tensors
        self._halves = tuple(self._half(tensors, number, dyn) for number in (1, 2))
        ranks = self._halves[0][1].shape[0] * self._halves[1][1].shape[0]
        out, features = layer.shape[0], torch.Size(layer.shape[1:]).numel()
        self.on_activations = not (self._tucker or layer.grouped) and ranks * (out + features) < out * features

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module, scale = alpha / rank, applied once."""
        return cls(layer, how.strength, tensors, how.scale_of(tensors["hada_w1_b"].shape[0]), how.dyn)

    def _half(self, tensors: Tensors, number: int, dyn: int | None) -> tuple[Tensor, ...]:
        a, b = tensors[f"hada_w{number}_a"], tensors[f"hada_w{number}_b"].flatten(1)
        if self._tucker:  # a (rank, out), b (rank, in), core (rank, rank, *kernel)
            check_shapes(f"hada_t{number}" in tensors and a.ndim == 2)
            core = tensors[f"hada_t{number}"]
            check_shapes(a.shape[1] == self.layer.shape[0] and b.shape[1] == self.layer.shape[1])
            check_shapes(core.shape == (a.shape[0], b.shape[0], *self.layer.shape[2:]))
            return a[:dyn], b[:dyn], core[:dyn, :dyn]
        a = a.flatten(1)
        check_shapes(a.shape == (self.layer.shape[0], b.shape[0]))
        check_shapes(b.shape[1] == torch.Size(self.layer.shape[1:]).numel())
        return a[:, :dyn], b[:dyn]

    def change(self, x: Tensor) -> Tensor:
        """The delta's output, through the factors of rank r1 * r2 if that costs less, otherwise through dW."""
        if not self.on_activations:
            return super().change(x)
        down, up = self._casts.get(x, self._khatri_rao)
        return self.layer.pointwise(self.layer.apply(x, down), up)

    def low_rank_factors(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """The factors of rank r1 * r2; None if dW costs less."""
        if not self.on_activations:
            return None
        down, up = self._casts.get(like, self._khatri_rao)
        return down, up * self.strength

    def _khatri_rao(self, move: Move) -> tuple[Tensor, Tensor]:
        (a1, b1), (a2, b2) = ([move(part) for part in half] for half in self._halves)
        up = (a1[:, :, None] * a2[:, None, :]).flatten(1) * self._scale
        down = (b1[:, None] * b2[None]).flatten(0, 1)
        return down.reshape(-1, *self.layer.shape[1:]), up

    def weight(self, move: Move) -> Tensor:
        """scale times the product of the two halves."""
        rebuilt = []
        for half in self._halves:
            a, b, *core = (move(part) for part in half)
            rebuilt.append(torch.einsum("ij...,jr,ip->pr...", core[0], b, a) if core else a @ b)
        return (self._scale * rebuilt[0] * rebuilt[1]).reshape(self.layer.shape)
