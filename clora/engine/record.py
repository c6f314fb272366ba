"""What a run leaves to be shown: its losses, which updates were refine steps, and maps of three of its steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..settings import Settings
from ..settings.schedule import schedule
from .composer import Event, Step, Updated

ConceptMaps = tuple[tuple[Tensor | None, ...], ...]
"""`[concept][variant]` (h_a, w_a), float32 on the CPU; None where a variant's words are scheduled away."""


NO_LOSS = "Show loss: no updates were made, so there is no curve to show."
"""Said where the curve was asked for and there is none, as with the preset fast."""


@dataclass(frozen=True)
class Snapshot:
    """The maps of each image at step `index` (from 0)."""

    index: int
    maps: tuple[ConceptMaps, ...]


@dataclass
class Curve:
    """One image's losses by its own updates; `refined` are the numbers of those that belong to refine steps."""

    losses: list[float] = field(default_factory=list)
    refined: list[int] = field(default_factory=list)


class Record:
    """An observer of one pass of `steps` steps (see `clora.engine.composer.Composer`).

    Maps are kept with `show_maps` only: those of the first step that cuts masks, of the last step that updates and of
    the last one, or of the nearest step before that cut new masks.
    """

    def __init__(self, settings: Settings, steps: int) -> None:
        plan = schedule(settings, steps)
        self._curves: dict[int, Curve] = {}
        self.last_update = min(plan.update_before, plan.compose_until) - 1 if settings.updates else -1
        self._with_maps: bool = settings.show_maps
        self._first: Snapshot | None = None
        self._updated: Snapshot | None = None
        self._last: Snapshot | None = None

    def __call__(self, event: Event) -> None:
        """Take in one event of the composer."""
        if isinstance(event, Updated):
            losses = event.gradient.losses.tolist()
            for image in (image for image, moved in enumerate(event.moved) if moved):
                curve = self._curves.setdefault(image, Curve())
                if event.total > 1:
                    curve.refined.append(len(curve.losses))
                curve.losses.append(losses[image])
        elif self._with_maps and event.maps is not None:
            self._last = _snapshot(event)
            self._first = self._first or self._last
            if event.index <= self.last_update:
                self._updated = self._last

    def curve(self, image: int) -> Curve:
        """One image's losses, empty if nothing was updated."""
        return self._curves.get(image, Curve())

    def strip(self, image: int) -> list[tuple[str, ConceptMaps]]:
        """Titles and one image's maps of the steps that were kept, in order."""
        kept = {one.index: one for one in (self._first, self._updated, self._last) if one is not None}
        return [(self._title(one), one.maps[image]) for one in kept.values()]

    def _title(self, one: Snapshot) -> str:
        return f"step {one.index + 1}" + (", last update" if one is self._updated else "")


def _snapshot(step: Step) -> Snapshot:
    maps = step.maps
    assert maps is not None
    images = []
    for image, plan in enumerate(step.plans):
        concepts = []
        for concept in plan.concepts:
            own = [maps.of(image, variant, positions).mean(dim=0).float().cpu() if positions else None
                   for variant, positions in enumerate(concept.group)]  # fmt: skip
            concepts.append(tuple(own))
        images.append(tuple(concepts))
    return Snapshot(step.index, tuple(images))
