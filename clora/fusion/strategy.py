"""What a fusion strategy is: its variants, its rows, its prediction, whether it needs masks, and its cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps
from ..conditioning.plan import ImagePlan, rows_of
from ..models.denoiser import Denoiser, Row
from ..prompt import Composition, LoraUse, Variant
from ..settings import Settings
from .forwards import Forwards
from .masked_mean import masked_mean


@dataclass(frozen=True)
class StepInputs:
    """What a strategy predicts one sampler step from.

    `latent` (B, C, h, w); `halves` are the halves of the guidance batch to predict: conditional (True) and
    unconditional (False). `masks[image]` (V, h, w) are the masks known before this forward, None if there are none
    yet; `read_maps` asks for the forward's attention maps, from which new masks are cut. `share` is how much of the
    concepts the unconditional half has (see look_guidance.py).
    """

    index: int
    latent: Tensor
    plans: Sequence[ImagePlan]
    denoiser: Denoiser
    halves: tuple[bool, ...]
    masks: Sequence[Tensor] | None = None
    read_maps: bool = False
    share: float = 1.0


@dataclass(frozen=True)
class Prediction:
    """Predictions (C, h, w) by row, and the attention maps of the same forward if they were asked for.

    `fused`: the base's rows hold the fused picture already.
    """

    rows: dict[Row, Tensor] = field(repr=False)
    maps: AttentionMaps | None = None
    fused: bool = False

    def picture(self, image: int, conditional: bool, mask: Tensor | None) -> Tensor:
        """One prediction (C, h, w) of an image: the masked mean by `mask` (V, h, w), None averages the variants."""
        own = sorted((row.variant, value) for row, value in self.rows.items() if row[::2] == (image, conditional))
        if len(own) == 1:
            return own[0][1]
        stack = torch.stack([value for _, value in own])
        return masked_mean(stack, torch.ones_like(stack[:, 0]) if mask is None else mask)


@dataclass(frozen=True)
class Cost:
    """What a strategy costs: most `rows` in one forward, and the mean `step` time, counted in rows of a forward.

    A plain picture with guidance has 2 rows and a step time of 2.
    """

    rows: int
    step: float


class Strategy(ABC):
    """One way to draw several LoRAs in one picture. A new one is a subclass in a file of its own."""

    name: ClassVar[str]
    needs_masks: ClassVar[bool] = False
    """Whether attention maps are read and masks cut; such a strategy may update the latent too."""
    fuses_in_forward: ClassVar[bool] = False
    """Whether masks must be known before the forward."""

    def __init__(self, settings: Settings, forwards: Forwards) -> None:
        self.settings, self.forwards = settings, forwards
        self.warnings: list[str] = []
        """Messages for the user."""

    @staticmethod
    @abstractmethod
    def variants(composition: Composition, everywhere: tuple[LoraUse, ...] = ()) -> tuple[Variant, ...]:
        """The prompt variants that are run for a composition of two or more concepts.

        `everywhere`: LoRAs that are on in every variant, if the host does not have them on itself (global styles).
        """

    @classmethod
    @abstractmethod
    def cost(cls, settings: Settings, concepts: int) -> Cost:
        """What composing `concepts` costs, updates apart."""

    def rows(self, step: StepInputs) -> tuple[Row, ...]:
        """The rows of a step: all variants."""
        return rows_of(step.plans, step.halves)

    def predict(self, step: StepInputs) -> Prediction:
        """The predictions of one step: every row evaluated by itself."""
        return self.evaluate(step, self.rows(step))

    def evaluate(self, step: StepInputs, rows: tuple[Row, ...]) -> Prediction:
        """`rows` evaluated by the denoiser, each with its own text and LoRAs, in pieces that fit the memory."""
        values, maps = self.forwards.rows(step.latent, rows, step.plans, step.denoiser, read_maps=step.read_maps)
        return Prediction(values, maps)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Hooks of the strategy's own exist inside this block only."""
        yield


def with_loras(variant: Variant, loras: tuple[LoraUse, ...], late: tuple[LoraUse, ...] = ()) -> Variant:
    """The variant with exactly these LoRAs on, some of them `late`."""
    return replace(variant, loras=loras, late=late)
