"""Base classes. Every LoRA format has two forms: on activations (exact, per row) and dense (merged weight)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from .layer import Casts, Layer

Tensors = Mapping[str, Tensor]
Move = Callable[[Tensor], Tensor]
ScaleOf = Callable[[int], float]


@dataclass(frozen=True)
class Reading:
    """How a module's tensors become a delta: the strength, rank -> scale, how many ranks (`dyn`, None: all).

    `options` are the trainer's settings for this module, under PEFT's names (`clora.lora.adapter`).
    """

    strength: float
    scale_of: ScaleOf
    dyn: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class ShapeError(Exception):
    """The tensors do not fit the layer; `apply_lora` makes it a CLoRAError that names the LoRA and the base model."""


def check_shapes(condition: bool) -> None:
    """Check a condition on the shapes of a format's tensors.

    Raises: ShapeError if it does not hold.
    """
    if not condition:
        raise ShapeError


class Before(Protocol):
    """The layer with the earlier LoRAs of the same set; for the first LoRA, the host's own layer."""

    def linear(self, x: Tensor) -> Tensor:
        """The layer applied to x with the weight so far, without bias."""

    def without_bias(self, y: Tensor) -> Tensor:
        """The output so far minus the layer's bias."""

    def remember(self, like: Tensor, make: Callable[[Move, Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """`make(move, weight so far)`, computed once per dtype and kept for this delta in this set."""


class Delta(ABC):
    """The change that one LoRA makes to one layer, at one strength."""

    needs: ClassVar[frozenset[str]]
    keys: ClassVar[frozenset[str]]

    def __init__(self, layer: Layer, strength: float) -> None:
        self.layer = layer
        self.strength = strength

    @classmethod
    def reads(cls, tensors: Tensors) -> bool:
        """True if a module's tensors have this format."""
        return cls.needs <= tensors.keys()

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor, before: Before) -> Tensor:
        """The output with this LoRA on, from the layer's input x and its output y so far (rows first)."""

    @abstractmethod
    def merge(self, weight: Tensor) -> Tensor:
        """The dense form: the weight so far with this LoRA merged, in the dtype of `weight`."""

    def low_rank_factors(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """(down (rank, in, *kernel), up (out, rank)) in the dtype of `like`, if the change is up(down(x)) with strength
        and scale included and `up` pointwise; None for every other form."""
        return None


class Additive(Delta):
    """A format whose change does not depend on the weight: y + strength * h(x)."""

    def __init__(self, layer: Layer, strength: float) -> None:
        super().__init__(layer, strength)
        self._casts = Casts()

    def forward(self, x: Tensor, y: Tensor, before: Before) -> Tensor:
        """y + strength * h(x)."""
        return torch.add(y, self.change(x), alpha=self.strength)

    def merge(self, weight: Tensor) -> Tensor:
        """W + strength * dW."""
        return weight + self.strength * self.weight(lambda tensor: tensor.detach().to(weight))

    def change(self, x: Tensor) -> Tensor:
        """h(x), the output of the delta alone at strength 1; by default through its dense weight."""
        (weight,) = self._casts.get(x, lambda move: (self.weight(move),))
        return self.layer.apply(x, weight)

    @abstractmethod
    def weight(self, move: Move) -> Tensor:
        """dW in the layer's weight shape at strength 1; `move` casts a stored tensor to device and dtype."""


class Full(Additive):
    """`diff` (LyCORIS full, extracted differences) and `w_norm`: a dense difference of the weight."""

    needs = frozenset({"diff"})
    keys = frozenset({"diff", "w_norm", "alpha"})

    def __init__(self, layer: Layer, strength: float, diff: Tensor) -> None:
        super().__init__(layer, strength)
        check_shapes(diff.numel() == torch.Size(layer.shape).numel() and (diff.shape[:1] == layer.shape[:1]))
        self._diff = diff

    @classmethod
    def reads(cls, tensors: Tensors) -> bool:
        """True if there is a `diff` or, for a norm, a `w_norm`."""
        return "diff" in tensors or "w_norm" in tensors

    @classmethod
    def read(cls, tensors: Tensors, layer: Layer, how: Reading) -> Delta:
        """The delta of one module; alpha is not used."""
        return cls(layer, how.strength, tensors["diff" if "diff" in tensors else "w_norm"])

    def weight(self, move: Move) -> Tensor:
        """The stored difference."""
        return move(self._diff).reshape(self.layer.shape)
