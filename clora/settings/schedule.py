"""Which sampler steps update, refine, fuse and compose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import BY_NAME, Settings

_BOUNDS = ("update_until", "fuse_from", "compose_until")


@dataclass(frozen=True)
class Schedule:
    """Which of `steps` sampler steps update, refine, fuse and compose; made by `schedule`.

    Where `look_ahead` steps are made beforehand, masks count from the first step on, and before `own_places` they are
    the subjects' own parts of the picture.
    """

    steps: int
    update_before: int
    refine_at: frozenset[int]
    fuse_from: int
    compose_until: int
    look_ahead: int = 0
    own_places: int = 0

    def updates(self, step: int, extra: int) -> int:
        """How many latent updates `step` gets: none, one, or one and the `extra` ones of a refine step."""
        if step >= self.update_before:
            return 0
        return 1 + extra if step in self.refine_at else 1


def schedule(settings: Settings, steps: int) -> Schedule:
    """The schedule for a run of `steps`: fractions become step numbers (0-based), rounded."""
    at: Sequence[float] = settings.refine_at
    ahead = max(1, round(settings.look_ahead * steps)) if settings.look_ahead else 0
    return Schedule(
        steps,
        round(settings.update_until * steps),
        frozenset(round(fraction * steps) for fraction in at),
        round(settings.fuse_from * steps),
        round(settings.compose_until * steps),
        ahead,
        round(settings.own_places * steps) if ahead else 0,
    )


def unreachable(settings: Settings, plan: Schedule) -> tuple[str, ...]:
    """Warnings about what the settings ask for and `plan`, which is theirs, has no step for."""
    if settings.method != "clora":
        return ()
    warnings = []
    until, begin, end = (f"{BY_NAME[name].label} ({getattr(settings, name):g})" for name in _BOUNDS)
    later = f" or raise {end}" if settings.compose_until < 1.0 else ""
    if settings.updates and min(plan.update_before, plan.compose_until) == 0:
        warnings.append(f"No step is left to update the latent: raise {until}{later}, or use more steps.")
    if plan.fuse_from >= plan.compose_until and not (plan.look_ahead and plan.compose_until):
        warnings.append(f"No step is left to fuse the LoRAs by masks: lower {begin}{later}.")
    return tuple(warnings)
