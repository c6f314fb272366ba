"""What a composition costs against a plain picture, told before it is made."""

from __future__ import annotations

from dataclasses import dataclass

from .schedule import schedule
from .settings import Settings

# Row-forwards that one row of an update costs: forward to the last tap and back, measured on the SD 1.5 UNet.
_UPDATE = 1.2


@dataclass(frozen=True)
class Estimate:
    """`time` in plain pictures of the same steps (`at_most` where refine steps may end early); `rows` of the UNet at
    once, where a plain picture has 2.
    """

    time: float
    rows: int
    at_most: bool = False

    @property
    def sentence(self) -> str:
        """For the user."""
        return (
            f"About {self.time:.1f} times the time of a plain picture, {self.rows} rows of the UNet at once (plain: 2)."
        )


def estimate(settings: Settings, concepts: int, steps: int) -> Estimate:
    """Cost of composing `concepts` over `steps` sampler steps with guidance, counted in rows of UNet forwards."""
    variants = {"clora": concepts + 1, "merge": 1, "composite": concepts, "switch": 1}[settings.method]
    most = 2 * variants
    rows = min(most, settings.rows_per_forward or most)
    plan = schedule(settings, steps)
    updates = sum(plan.updates(step, settings.refine_updates) for step in range(steps)) if settings.updates else 0
    total = steps * most + updates * variants * _UPDATE
    return Estimate(total / (2 * steps), rows, at_most=bool(updates) and settings.refine_tolerance > 0.0)
