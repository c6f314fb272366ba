"""The events of a run, for observers: latent updates and steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ..attention.maps import AttentionMaps
from ..conditioning.plan import ImagePlan
from ..fusion import Prediction
from ..guidance.update import Gradient


@dataclass(frozen=True)
class Updated:
    """One latent update is done: number `index` of `total` at `step`; more than one is a refine step.

    `moved[image]`: whether the update moved this image of the batch; others have ended their refine step already.
    """

    step: int
    index: int
    total: int
    gradient: Gradient
    before: Tensor
    after: Tensor
    moved: tuple[bool, ...]

    @property
    def loss(self) -> float:
        """Mean loss over the batch's images that are being updated."""
        return float(self.gradient.losses.nanmean())

    @property
    def phase(self) -> str:
        """For progress: "refining 3/21, loss 0.83"."""
        doing = f"refining {self.index + 1}/{self.total}" if self.total > 1 else f"step {self.step + 1}"
        return f"{doing}, loss {self.loss:.2f}"


@dataclass(frozen=True)
class Step:
    """What a sampler step gets: the moved latent (B, C, h, w), fused predictions and what they were made of.

    `uncond` is None without guidance. `masks[image]` (V, h, w) is None while predictions are averaged (before
    `fuse_from`, and for strategies without masks). `localized[image]` (1 + N, h, w) is where subjects with a region
    were found in it, None without regions; empty if the step has no masks of its own.
    `prediction.rows[image, variant, conditional]` (C, h, w).
    """

    index: int
    latent: Tensor
    cond: Tensor
    uncond: Tensor | None
    plans: tuple[ImagePlan, ...]
    masks: tuple[Tensor | None, ...]
    prediction: Prediction = field(repr=False)
    localized: tuple[Tensor | None, ...] = ()

    @property
    def maps(self) -> AttentionMaps | None:
        """The attention maps of the step's forward, None if it read none."""
        return self.prediction.maps


Event = Updated | Step
Observer = Callable[[Event], None]
