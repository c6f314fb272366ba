"""A model family: everything the engine needs to know of one kind of diffusion model, in one class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ..lora.target import Target


@dataclass(frozen=True)
class CrossAttention:
    """One cross-attention layer of a model.

    `name` in the module tree; `module` is called with the image's states and the text's context, `to_q`, `to_k`
    and `to_v` are its projections, `to_out` the projection after the attention. `scale` is that of the softmax, 0 for
    1/sqrt(head dim). `early`: in the first half of the model.
    """

    name: str
    module: nn.Module
    to_q: nn.Module
    to_k: nn.Module
    to_v: nn.Module
    to_out: nn.Module
    heads: int
    scale: float
    early: bool


class ModelFamily(ABC):
    """What differs between kinds of diffusion models. A new kind is one subclass, listed in `clora.models.FAMILIES`."""

    name: ClassVar[str]
    spatial_factor: ClassVar[int] = 8
    """Pixels per latent cell, along each axis."""
    text_chunk: ClassVar[int] = 75
    """Tokens of a prompt in one chunk of the text's context, besides its start and end."""

    @abstractmethod
    def matches(self, model: nn.Module) -> bool:
        """Whether `model` is of this family."""

    @abstractmethod
    def cross_attention(self, model: nn.Module) -> tuple[CrossAttention, ...]:
        """Every cross-attention layer, in the order of the module tree."""

    @abstractmethod
    def map_grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the attention maps for a latent of `height` x `width` cells."""

    @abstractmethod
    def lora_targets(self, component: str, root: nn.Module) -> Mapping[str, Target]:
        """Every layer of a component ("unet", "text_encoder", ...) that a LoRA can change, by flat name."""

    def base_model(self, model: nn.Module | None) -> tuple[str | None, str]:
        """The base model that LoRA files name (None if unknown), and the loaded model in words.

        `model` is None if only text encoders are loaded.
        """
        return None, f"a model of the family {self.name}"

    @abstractmethod
    def latent_scale(self, sigma: float) -> float:
        """s in x = s z: the latent x of samplers that count in sigma over the variance-preserving latent z."""

    @abstractmethod
    def context(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The text's context (R, L, D) in the arguments of a call of `CrossAttention.module`."""

    @abstractmethod
    def with_call(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], states: Tensor, context: Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments with other states (R, n, D) and another context (R, L, D)."""
