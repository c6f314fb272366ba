"""What the engine asks of a host: a denoiser that evaluates rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor


class Row(NamedTuple):
    """One row of a UNet batch: a variant of one image of the batch, with its prompt or its negative prompt."""

    image: int
    variant: int
    conditional: bool


@dataclass(frozen=True)
class Conditioned:
    """What R rows are conditioned on: `contexts` (R, L, D), the LoRA set of each, and SDXL's pooled texts (R, A)."""

    contexts: Tensor
    sets: Sequence[int]
    vectors: Tensor | None = None


class Denoiser(Protocol):
    """One evaluation point (one timestep) of a host's model."""

    @property
    def latent_scale(self) -> float:
        """s in x = s * z: the sampler's latent x over the variance-preserving latent z (1 or sqrt(1 + sigma^2))."""
        ...

    @property
    def complete(self) -> bool:
        """Whether `denoised` has everything that changes the host's own predictions."""
        ...

    @property
    def signal(self) -> float:
        """The part of the signal's variance in z: the cumulative product of alphas at this timestep, 0 to 1."""
        ...

    def denoised(self, latent: Tensor, signal: float, rows: tuple[Row, ...]) -> Tensor:
        """x0 (R, C, h, w) predicted for variance-preserving `latent` (R, C, h, w) at another `signal` level.

        Not differentiable. Rows are evaluated as by `predict`.
        """
        ...

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        """The model's prediction (R, C, h, w) for `latent` (R, C, h, w) in the sampler's space, one for each row.

        Row r is evaluated with the context and the LoRAs of `rows[r]`, and with SDXL's `vectors` (R, A) instead of the
        rows' own pooled texts where they are given. Differentiable with respect to `latent`
        inside `gradients()`.
        """
        ...

    def conditioning(self, rows: tuple[Row, ...]) -> Conditioned:
        """What `predict` gives the rows."""
        ...

    def gradients(self) -> AbstractContextManager[None]:
        """A block in which `predict` records gradients with respect to the latent (and to nothing else)."""
        ...
