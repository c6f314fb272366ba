"""Single-pass fusion: all concepts in one row, fused in every layer by masks that are known before the forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from torch import Tensor

from ..lora.rows import RowLoras
from ..models.denoiser import Row
from ..settings import Settings
from .exact import Exact
from .forwards import Forwards
from .layerwise import LayerwiseFusion, ReplacedAttentionError
from .strategy import Cost, Prediction, StepInputs

AS_EXACT = (
    "Another extension has replaced the cross-attention (IP-Adapter, for instance), so the LoRAs were fused as with "
    "Fusion exact: the picture takes longer."
)


class SinglePass(Exact):
    """The exact strategy's variants and rows; without masks, for the first ones, its prediction too."""

    name = "single-pass"
    fuses_in_forward = True
    variant_cost: ClassVar[float] = 0.04
    """What each variant adds to a row, measured on the SD 1.5 UNet by benchmarks/speed.py."""

    def __init__(self, settings: Settings, forwards: Forwards, loras: RowLoras) -> None:
        """`loras` are the row-wise LoRAs of the denoiser that the strategy predicts with."""
        super().__init__(settings, forwards)
        self._layerwise = LayerwiseFusion(forwards.probe.layers, forwards.probe.family, loras)

    @classmethod
    def cost(cls, settings: Settings, concepts: int) -> Cost:
        """A plain step's two rows and a little for each variant; the first masks may need all rows once."""
        first = 0 if settings.updates or settings.fuse_from else cls.most_rows(settings, concepts)
        return Cost(max(2, first), 2.0 * (1.0 + cls.variant_cost * (concepts + 1)))

    def predict(self, step: StepInputs) -> Prediction:
        """The fused prediction of the base's rows; row by row where no masks are known yet, or layers are replaced."""
        if not step.masks or AS_EXACT in self.warnings:
            return super().predict(step)
        rows, masks = self.rows(step), step.masks

        def forward(of: tuple[Row, ...]) -> Tensor:
            return self._layerwise.predict(step.latent, of, masks, step.denoiser, step.share)

        try:
            values, maps = self.forwards.fused(step.latent, rows, step.plans, forward, read_maps=step.read_maps)
        except ReplacedAttentionError:
            self.warnings.append(AS_EXACT)
            return super().predict(step)
        return Prediction(values, maps, fused=True)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The hooks of the fusion in the layers."""
        with self._layerwise.installed():
            yield
