"""What the engine asks of a host: a denoiser that evaluates rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from torch import Tensor


class Row(NamedTuple):
    """One row of a UNet batch: a variant of one image of the batch, with its prompt or its negative prompt."""

    image: int
    variant: int
    conditional: bool


class Denoiser(Protocol):
    """One evaluation point (one timestep) of a host's model."""

    @property
    def latent_scale(self) -> float:
        """s in x = s * z: the sampler's latent x over the variance-preserving latent z (1 or sqrt(1 + sigma^2))."""
        ...

    def predict(self, latent: Tensor, rows: tuple[Row, ...]) -> Tensor:
        """The model's prediction (R, C, h, w) for `latent` (R, C, h, w) in the sampler's space, one for each row.

        Row r is evaluated with the context and the LoRAs of `rows[r]`. Differentiable with respect to `latent`
        inside `gradients()`.
        """
        ...

    def conditioning(self, rows: tuple[Row, ...]) -> tuple[Tensor, Sequence[int]]:
        """The contexts (R, L, D) that `predict` gives the rows, and the index of each row's LoRA set."""
        ...

    def gradients(self) -> AbstractContextManager[None]:
        """A block in which `predict` records gradients with respect to the latent (and to nothing else)."""
        ...
