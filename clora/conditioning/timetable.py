"""What changes over the steps of a run: timetables, and how a host counts the steps of prompt scheduling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..prompt import ResolvedText, schedule

Value = TypeVar("Value")
Other = TypeVar("Other")


@dataclass(frozen=True)
class Timetable(Generic[Value]):
    """Values over the steps of a run, as (end, value) in order: a value is active while step (from 0) < end.

    The last value stays active after its end, since adaptive samplers run past their last step.
    """

    entries: tuple[tuple[int, Value], ...]

    @classmethod
    def constant(cls, value: Value) -> Timetable[Value]:
        """One value for all steps."""
        return cls(((0, value),))

    def at(self, step: int) -> Value:
        """The value that is active at `step`."""
        return next((value for end, value in self.entries if step < end), self.entries[-1][1])

    @property
    def values(self) -> tuple[Value, ...]:
        """Every value, in order."""
        return tuple(value for _, value in self.entries)

    def replaced(self, values: Sequence[Other]) -> Timetable[Other]:
        """The same ends with other values."""
        return Timetable(tuple((end, value) for (end, _), value in zip(self.entries, values, strict=True)))

    def map(self, function: Callable[[Value], Other]) -> Timetable[Other]:
        """The same ends with `function` of each value."""
        return self.replaced([function(value) for value in self.values])


def joined(timetables: Sequence[Timetable[Value]]) -> Timetable[tuple[Value, ...]]:
    """Several timetables as one, whose values are tuples with a value of each."""
    ends = sorted({end for table in timetables for end, _ in table.entries})
    return Timetable(tuple((end, tuple(table.at(end - 1) for table in timetables)) for end in ends))


@dataclass(frozen=True)
class PromptSteps:
    """The steps over which a host runs prompt scheduling.

    `count` is the number of steps, `first_pass` that of the first pass where this is a hires pass. With `delay` d a
    text stays active for d steps more than its schedule says: A1111 and Forge change texts one evaluation late.
    `from_noise`: the pass begins without a picture.
    """

    count: int
    first_pass: int | None = None
    delay: int = 0
    from_noise: bool = True

    def timetable(self, text: str) -> Timetable[ResolvedText]:
        """The scheduled texts of a prompt."""
        scheduled = schedule(text, self.count, base_steps=self.first_pass)
        return Timetable(tuple((last + self.delay, resolved) for last, resolved in scheduled))
