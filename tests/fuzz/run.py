"""Drives the edges in turn and gathers what is neither an answer nor one sentence."""

from __future__ import annotations

import random
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from clora.errors import CLoRAError
from tests.fuzz.edges import check_sentence, ready

SLOW = 2.0
"""Seconds of work that no input may take; a first call also loads models and tokenizers."""


HANGS = 30
"""Seconds of work after which an input is given up; ten times that on the clock, as other programs may be at work."""


class HungError(BaseException):
    """An input took too long. Not an `Exception`, so that no edge turns it into a sentence."""


@contextmanager
def limited() -> Iterator[None]:
    """Raises: HungError in the block after `HANGS` seconds of work, where the system can interrupt it."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(*args: Any) -> None:
        raise HungError

    limits = (
        (signal.ITIMER_PROF, signal.SIGPROF, HANGS),
        (signal.ITIMER_REAL, signal.SIGALRM, 10 * HANGS),  # for what waits and does no work
    )
    before = [signal.signal(number, give_up) for _, number, _ in limits]
    for timer, _, seconds in limits:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(limits, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


@dataclass(frozen=True)
class Finding:
    """What went wrong: `seed` gives the input again with `--only EDGE --seed SEED --count 1`."""

    edge: str
    seed: int
    what: str


@dataclass
class Outcome:
    """How often each edge answered or refused, and the findings, one of each kind."""

    runs: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def fuzz(seconds: float, seed: int = 0, *, only: Sequence[str] = (), count: int = 0) -> Outcome:
    """Try inputs for some seconds, or `count` for each edge. Input n of an edge follows from `seed` + n alone."""
    outcome, kinds = Outcome(), set[tuple[str, str]]()
    with ready() as edges:
        chosen = {name: edge for name, edge in edges.all().items() if not only or name in only}
        spent = dict.fromkeys(chosen, 0.0)
        until = time.monotonic() + seconds
        while time.monotonic() < until or count:
            # All edges get the same time, so that the slow ones leave room for the others.
            name = min(spent, key=lambda one: spent[one])
            if count and outcome.runs[name] == count:
                break
            # Of this process alone, because other programs may slow the machine down.
            number, started = seed + outcome.runs[name], time.process_time()
            kind, text = _attempt(chosen[name], random.Random(f"{name} {number}"), outcome, name)
            took = time.process_time() - started
            spent[name] += 1.0 if count else took
            if not kind and took > SLOW and outcome.runs[name]:
                kind, text = "slow", f"took {took:.1f} s"
            outcome.runs[name] += 1
            if kind and (name, kind) not in kinds:
                kinds.add((name, kind))
                outcome.findings.append(Finding(name, number, text))
    return outcome


def _attempt(edge: Callable[[random.Random], None], rng: random.Random, outcome: Outcome, name: str) -> tuple[str, str]:
    """The kind of what went wrong and a text about it, empty for an answer or a sentence."""
    try:
        with limited():
            edge(rng)
    except HungError:
        return "hangs", f"no answer within {HANGS} s of work"
    except CLoRAError as error:
        outcome.refused[name] += 1
        try:
            check_sentence(str(error))
        except Exception as wrong:
            return _where(error), f"{type(wrong).__name__}: {wrong}"
    except Exception as error:
        return _where(error), "".join(traceback.format_exception(error)[-6:])
    return "", ""


def _where(error: BaseException) -> str:
    """The error's kind and the line that raised it, so that one fault is listed once."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "clora" in frame.filename] or frames
    return f"{type(error).__name__} {own[-1].filename}:{own[-1].lineno}" if own else type(error).__name__
