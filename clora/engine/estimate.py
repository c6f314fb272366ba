"""What a composition costs against a plain picture, estimated before it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..fusion import strategy_class
from ..settings import Settings
from ..settings.schedule import Schedule, schedule

_UPDATE = {"all": 1.2, "down": 0.6}
"""What a row of an update costs in row-forwards (forward to the last probe and back), measured on the SD 1.5 UNet by
benchmarks/speed.py."""
_ANYWAY = 1.1
"""The factors are measured: on another machine a run may cost a tenth more or less."""
_WIDEST = 1.5
"""The most that the end of the range is above its start."""
_EARLIER = 1.25
"""Refine steps may end that much earlier, in the time of the whole run."""
_SIDE = 512
"""The picture's side that a detail size is compared with, because the picture's own is not known here."""
_SQUARE = 0.75
"""Usual area of a crop as a part of the square of its longer side."""


@dataclass(frozen=True)
class Estimate:
    """`time` in plain pictures of the same steps, and the range `least` to `most` in which a run's time lies, at most
    1.5 times as long; `rows` of the UNet at once (a plain picture has 2).
    """

    time: float
    rows: int
    least: float
    most: float

    @property
    def sentence(self) -> str:
        """For the user."""
        least = round(self.least, 1)
        most = min(round(self.most, 1), math.floor(10 * _WIDEST * least + 1e-9) / 10)
        return (
            f"About {self.time:.1f} times the time of a plain picture ({least:.1f} to {most:.1f}). Memory: {self.rows} "
            "rows of the UNet at once (a plain picture has 2)."
        )


def estimate(settings: Settings, concepts: int, steps: int) -> Estimate:
    """Cost of composing `concepts` over `steps` sampler steps with guidance, counted in rows of UNet forwards."""
    strategy, plan = strategy_class(settings), schedule(settings, steps)
    cost, fewest, usual, all_updates = strategy.cost(settings, concepts), 0.0, 0.0, 0.0
    step = cost.step
    if strategy.needs_masks:
        composed = min(plan.compose_until, steps) / steps if steps else 1.0
        step = composed * cost.step + (1.0 - composed) * 2.0
        fewest, usual, all_updates = _updates(settings, plan)
        step += 2.0 * plan.look_ahead / max(1, steps)
    halves = 2 if settings.maps == "both" else 1
    each = halves * (concepts + 1) * _UPDATE[settings.update_layers]
    rows = max(cost.rows, halves * (concepts + 1) if all_updates else 0)
    rows = min(rows, settings.rows_per_forward or rows)
    detail = _detail(settings, concepts, steps) if strategy.needs_masks else 0.0
    lowest, time, highest = (
        (steps * step + count * each) / (2 * steps) + detail for count in (fewest, usual, all_updates)
    )
    if lowest == highest:
        return Estimate(time, rows, time / _ANYWAY, time * _ANYWAY)
    least = max(lowest, time / _EARLIER)
    return Estimate(time, rows, least, min(highest, least * _WIDEST))


def _detail(settings: Settings, concepts: int, steps: int) -> float:
    """What the detail pass of all subjects costs, in plain pictures."""
    if not settings.detail:
        return 0.0
    area = _SQUARE * ((settings.detail_size / _SIDE) ** 2 if settings.detail_size else 1.0)
    return concepts * settings.detail_strength * (settings.detail_steps or steps) / steps * area


def _updates(settings: Settings, plan: Schedule) -> tuple[float, float, float]:
    """The fewest, usual and most updates of a run."""
    if not settings.updates:
        return 0, 0, 0
    counts = [plan.updates(n, settings.refine_updates) for n in range(min(plan.steps, plan.compose_until))]
    tolerance = settings.refine_tolerance
    if tolerance == 0.0:
        return sum(counts), sum(counts), sum(counts)
    # The second update of a refine step is the first that may end it. The embedded model makes 2 to 5 at a tolerance
    # of 0.03 and 5 to 10 at 0.01, most of them near the fewest (docs/performance.md).
    usual = max(2.0, 0.5 / math.sqrt(tolerance))
    return sum(min(n, 2) for n in counts), sum(min(n, usual) for n in counts), sum(counts)
