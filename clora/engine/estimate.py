"""What a composition costs against a plain picture, estimated before it is made."""

from __future__ import annotations

from dataclasses import dataclass

from ..fusion import strategy_class
from ..settings import Settings
from ..settings.schedule import schedule

_UPDATE = {"all": 1.2, "down": 0.6}
"""What a row of an update costs in row-forwards (forward to the last probe and back), measured on the SD 1.5 UNet by
benchmarks/speed.py."""


@dataclass(frozen=True)
class Estimate:
    """`time` in plain pictures of the same steps, `least` if every refine step ends as early as it may; `rows` of
    the UNet at once (a plain picture has 2).
    """

    time: float
    rows: int
    least: float

    @property
    def sentence(self) -> str:
        """For the user."""
        memory = f"Memory: {self.rows} rows of the UNet at once (a plain picture has 2)."
        if self.least == self.time:
            return f"About {self.time:.1f} times the time of a plain picture. {memory}"
        return (
            f"About {self.least:.1f} to {self.time:.1f} times the time of a plain picture, depending on how early "
            f"refine steps end. {memory}"
        )


def estimate(settings: Settings, concepts: int, steps: int) -> Estimate:
    """Cost of composing `concepts` over `steps` sampler steps with guidance, counted in rows of UNet forwards."""
    strategy = strategy_class(settings)
    cost, step = strategy.cost(settings, concepts), 2.0
    updates = least = 0
    if strategy.needs_masks:
        step = settings.compose_until * cost.step + (1.0 - settings.compose_until) * 2.0
        updates, least = _updates(settings, steps)
    else:
        step = cost.step
    halves = 2 if settings.maps == "both" else 1
    each = halves * (concepts + 1) * _UPDATE[settings.update_layers]
    rows = max(cost.rows, halves * (concepts + 1) if updates else 0)
    most_time, least_time = ((steps * step + count * each) / (2 * steps) for count in (updates, least))
    return Estimate(most_time, min(rows, settings.rows_per_forward or rows), least_time)


def _updates(settings: Settings, steps: int) -> tuple[int, int]:
    """Most and fewest updates of a run."""
    if not settings.updates:
        return 0, 0
    plan = schedule(settings, steps)
    until = range(min(steps, plan.compose_until))
    most = least = sum(plan.updates(n, settings.refine_updates) for n in until)
    if settings.refine_tolerance > 0.0:  # the second update of a refine step is the first that may end it
        least = sum(min(plan.updates(n, settings.refine_updates), 2) for n in until)
    return most, least
