"""Which sampler steps update, refine, fuse and compose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .settings import Settings


@dataclass(frozen=True)
class Schedule:
    """Which of `steps` sampler steps update, refine, fuse and compose; made by `schedule`."""

    steps: int
    update_before: int
    refine_at: frozenset[int]
    fuse_from: int
    compose_until: int

    def updates(self, step: int, extra: int) -> int:
        """How many latent updates `step` gets: none, one, or one and the `extra` ones of a refine step."""
        if step >= self.update_before:
            return 0
        return 1 + extra if step in self.refine_at else 1


def schedule(settings: Settings, steps: int) -> Schedule:
    """The schedule for a run of `steps`: fractions become step numbers (0-based), rounded."""
    at: Sequence[float] = settings.refine_at
    return Schedule(
        steps,
        round(settings.update_until * steps),
        frozenset(round(fraction * steps) for fraction in at),
        round(settings.fuse_from * steps),
        round(settings.compose_until * steps),
    )
