"""What there is to show of a finished picture: masks, attention maps, losses, and the concepts' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..engine.record import ConceptMaps, Curve
from ..pictures import masks_overlay
from ..prompt import Composition
from ..prompt.region import Region
from ..regions.masks import concept_masks
from .sampling_pass import Outcome


@dataclass
class Shown:
    """What there is to show for one picture: final masks (1 + N, h, w), attention maps, losses, the concepts' names.

    `refined` are the numbers of the updates that were refine steps, `names` the names that corrections give concepts;
    `localized` (1 + N, h, w) is where subjects with a region were localized.
    """

    masks: Tensor | None
    maps: list[tuple[str, ConceptMaps]]
    labels: tuple[str, ...]
    variants: tuple[str, ...]
    losses: tuple[float, ...]
    refined: tuple[int, ...]
    names: tuple[str, ...] = ()
    regions: tuple[Region | None, ...] = ()
    localized: Tensor | None = None

    def over(self, picture: Any) -> Any:
        """The picture with the masks over it, None without masks."""
        if self.masks is None:
            return None
        return masks_overlay(picture, self.masks, self.labels, self.regions, self.localized)


@dataclass(frozen=True)
class Drawn:
    """A finished picture of the batch that CLoRA has just drawn."""

    composition: Composition
    shown: Shown


def shown_of(outcome: Outcome, image: int, composition: Composition) -> Shown:
    """What there is to show for one picture of a pass."""
    record, curve = outcome.record, outcome.record.curve(image) if outcome.record else Curve()
    masks, localized = (of[image] if image < len(of) else None for of in (outcome.masks, outcome.localized))
    own = None if masks is None else concept_masks(masks, len(composition.concepts)).float().cpu()
    return Shown(
        own, record.strip(image) if record else [],
        tuple(concept.label for concept in composition.concepts), composition.variant_names,
        tuple(curve.losses), tuple(curve.refined), tuple(concept.corrected_as for concept in composition.concepts),
        tuple(concept.region for concept in composition.concepts),
        None if localized is None else localized.float().cpu(),
    )  # fmt: skip
