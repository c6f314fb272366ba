"""A clock for limits that must hold on slow and busy machines, too."""

from __future__ import annotations

import time

_REFERENCE = 0.0165
"""CPU seconds that `_work` takes on the machine that the limits were chosen on."""


class Clock:
    """Measures CPU time in seconds of that machine: on a slower one they are longer, on a faster one as long."""

    def __init__(self) -> None:
        self._pace = _pace()
        self._start = time.process_time()

    def seconds(self) -> float:
        """Seconds since the clock was made."""
        took = time.process_time() - self._start
        return took / max(1.0, self._pace, _pace())


def _pace() -> float:
    """How many times slower than that machine this one is now."""
    return min(_work() for _ in range(3)) / _REFERENCE


def _work() -> float:
    start = time.process_time()
    sum(number * number for number in range(300_000))
    return time.process_time() - start
