"""What a composition costs against a plain picture, told before it is made."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import Settings
from ..settings.schedule import schedule

# Measured on the SD 1.5 UNet by benchmarks/speed.py: what a row of an update costs in row-forwards (forward to the
# last tap and back; only the way down costs less), and what each variant adds to a row of a single pass.
_UPDATE = {"all": 1.2, "down": 0.6}
_VARIANT = 0.04


@dataclass(frozen=True)
class Estimate:
    """`time` in plain pictures of the same steps, `least` where every refine step ends as early as it may; `rows` of
    the UNet at once, where a plain picture has 2.
    """

    time: float
    rows: int
    least: float

    @property
    def sentence(self) -> str:
        """For the user."""
        memory = f"Memory: {self.rows} rows of the UNet at once, where a plain picture has 2."
        if self.least == self.time:
            return f"About {self.time:.1f} times a plain picture's time. {memory}"
        return (
            f"About {self.least:.1f} to {self.time:.1f} times a plain picture's time: least where refine steps end "
            f"early. {memory}"
        )


def estimate(settings: Settings, concepts: int, steps: int) -> Estimate:
    """Cost of composing `concepts` over `steps` sampler steps with guidance, counted in rows of UNet forwards."""
    variants = {"clora": concepts + 1, "merge": 1, "composite": concepts, "switch": 1}[settings.method]
    most, step = 2 * variants, 2.0 * variants
    updates = least = 0
    if settings.method == "clora":
        most = step = variants + 1 if settings.shared_uncond else 2 * variants
        base = 2.0
        step = base + (most - base) / settings.variants_every
        if settings.fusion == "single-pass":
            first = 0 if settings.updates or settings.fuse_from else most  # the first masks need all rows
            most, step = max(2, first), base * (1.0 + _VARIANT * variants)
        step = settings.compose_until * step + (1.0 - settings.compose_until) * base
        plan = schedule(settings, steps)
        if settings.updates:
            until = range(min(steps, plan.compose_until))
            updates = least = sum(plan.updates(n, settings.refine_updates) for n in until)
            if settings.refine_tolerance > 0.0:  # the second update of a refine step is the first that may end it
                least = sum(min(plan.updates(n, settings.refine_updates), 2) for n in until)
    rows = max(most, variants if updates else 0)
    each = variants * _UPDATE[settings.update_layers]
    most_time, least_time = ((steps * step + count * each) / (2 * steps) for count in (updates, least))
    return Estimate(most_time, min(rows, settings.rows_per_forward or rows), least_time)
