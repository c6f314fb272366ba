"""The page's models and its one job at a time: told step by step, stopped on demand."""

from __future__ import annotations

import copy
import queue
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.composer import Event, Updated
from ..engine.record import Record
from ..hosts.diffusers import Composed, Sampling, TextEncoding, compose
from ..hosts.diffusers.checkpoint import load_pipeline
from ..prompt import PromptTokens, ResolvedText
from ..settings import Settings
from .session import Session, composition_of


@dataclass(frozen=True)
class Job:
    """One picture that a tab asks for. A `seed` below 0 is random; sizes of 0 are the model's own."""

    prompt: str
    negative: str
    session: Session
    settings: Settings
    steps: int = 20
    guidance: float = 3.5
    seed: int = -1
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a job is: `done` of `total` sampler steps, and the phase in words."""

    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Drawn:
    """One picture is there: `merged` is plain merge, the other what was asked for. `record` is how it came about."""

    composed: Composed
    merged: bool
    record: Record

    @property
    def composes(self) -> bool:
        """Whether the prompt has two concepts; CLoRA is inactive if it has fewer, whatever the method."""
        return self.composed.compositions[0].composes


class Stopped(Exception):
    """The user wants no more of it."""


Told = Progress | Drawn
_Tell = Callable[[Told | BaseException | None], None]


_TITLES = {"clora": "CLoRA", "merge": "Plain merge"}


@dataclass(frozen=True)
class _Loaded:
    pipe: Any
    layout: Callable[[ResolvedText], PromptTokens]


class Engine:
    """Models for all tabs: the embedded one, and the checkpoint that was asked for last. Never two jobs at once."""

    def __init__(self, device: str | None = None) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._models: dict[Path | None, _Loaded] = {}

    def load(self, source: Path | None) -> Sampling:
        """Load a model and tell its own size. Errors: CLoRAError; the models from before stay."""
        with self._lock:
            return Sampling().checked(self._model(source).pipe)

    def layout(self, source: Path | None) -> Callable[[ResolvedText], PromptTokens] | None:
        """Where a text's tokens stand, for a model that is loaded."""
        found = self._models.get(source)
        return found.layout if found else None

    def draw(self, job: Job, stop: threading.Event) -> Iterator[Told]:
        """Draw what `job` asks for, then plain merge from the same seed; tell every step on the way.

        Setting `stop`, and closing the iterator, end the job at its next step. Errors: CLoRAError, Stopped.
        """
        told: queue.Queue[Told | BaseException | None] = queue.Queue()
        threading.Thread(target=self._work, args=(job, told.put, stop), daemon=True).start()
        try:
            while (item := _newest(told)) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()

    def _model(self, source: Path | None) -> _Loaded:
        if source not in self._models:
            pipe = load_pipeline(source, device=self._device)
            # Tokens are looked up while a job runs, and a tokenizer must not be used from two threads.
            encoding, tokenizer = TextEncoding(pipe), copy.deepcopy(pipe.tokenizer)
            kept: dict[Path | None, _Loaded] = {key: one for key, one in self._models.items() if key is None}
            self._models = {**kept, source: _Loaded(pipe, lambda text: encoding.layout(text, tokenizer))}
        return self._models[source]

    def _work(self, job: Job, tell: _Tell, stop: threading.Event) -> None:
        waiting = False
        while not self._lock.acquire(timeout=0.1):
            if stop.is_set():
                return tell(Stopped())
            if not waiting:
                tell(Progress("Waiting for another picture or model to be finished"))
            waiting = True
        try:
            self._draw_both(job, tell, stop)
        except Exception as error:
            tell(error)
        finally:
            self._lock.release()
            tell(None)

    def _draw_both(self, job: Job, tell: _Tell, stop: threading.Event) -> None:
        tell(Progress("Reading LoRAs"))
        pipe = self._model(job.session.model).pipe
        seed = secrets.randbelow(2**32) if job.seed < 0 else job.seed
        found = composition_of(job.prompt, "", job.session)
        # Fewer than two concepts are one picture, and so is plain merge by itself; a mistake is told by compose().
        aside = found is not None and not found.composes
        alone = aside or job.settings.method == "merge"
        total = job.steps * (1 if alone else 2)
        for merged in (True,) if alone else (False, True):
            settings = job.settings.replace(method="merge") if merged else job.settings
            record = Record(settings, job.steps)
            title = "Without CLoRA" if aside else _TITLES.get(settings.method, settings.method.capitalize())
            watch = _watch(record, tell, stop, job.steps if merged and not alone else 0, total, title)
            composed = compose(
                pipe, job.prompt, loras=job.session.loras, negative_prompt=job.negative, seed=seed, steps=job.steps,
                guidance=job.guidance, width=job.width, height=job.height, settings=settings, observer=watch,
            )  # fmt: skip
            tell(Drawn(composed, merged, record))


def _newest(told: queue.Queue[Any]) -> Any:
    """The next item; of steps that came meanwhile only the last."""
    item = told.get()
    while isinstance(item, Progress) and not told.empty():
        item = told.get()
    return item


def _watch(
    record: Record, tell: _Tell, stop: threading.Event, before: int, total: int, title: str
) -> Callable[[Event], None]:
    """An observer that tells the phase in the WebUI's words; `before` steps of `total` are done already."""

    def watch(event: Event) -> None:
        if stop.is_set():
            raise Stopped
        record(event)
        if isinstance(event, Updated):
            tell(Progress(f"{title}: {event.phase}", before + event.step, total))
            return
        tell(Progress(f"{title}: step {event.index + 1}", before + event.index + 1, total))

    return watch
