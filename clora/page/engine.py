"""The page's models, and its jobs: one at a time, with progress by step, stopped on demand."""

from __future__ import annotations

import copy
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.composer import Event, Updated
from ..engine.plans import MADE, PlanRequest, PlanStore, PlanUse, check_active, settings_of_plan
from ..engine.record import Record
from ..hosts.diffusers import Composed, Sampling, TextEncoding, compose
from ..hosts.diffusers.checkpoint import load_pipeline
from ..prompt import Composition, PromptTokens, ResolvedText, WordsOverride
from ..settings import Settings
from ..settings.schedule import schedule
from .session import Session, composition_of


@dataclass(frozen=True)
class Job:
    """One picture that a tab asks for. A `seed` below 0 is random; a size of 0 is the model's default.

    `painted` are the corrections that no tag can hold, painted places, by LoRA name. `plan` is what the job wants with
    a plan.
    """

    prompt: str
    negative: str
    session: Session
    settings: Settings
    steps: int = 20
    guidance: float = 3.5
    seed: int = -1
    width: int = 0
    height: int = 0
    painted: Mapping[str, WordsOverride] = field(default_factory=dict)
    plan: PlanRequest | None = None

    @property
    def only_plans(self) -> bool:
        """Whether the job ends with its plan."""
        return self.plan is not None and self.plan.only


@dataclass(frozen=True)
class Progress:
    """The progress of a job: `done` of `total` sampler steps, and the phase as text."""

    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Drawn:
    """A finished picture: plain merge (`merged`), or what the job asked for. `record` has its losses and maps."""

    composed: Composed
    merged: bool
    record: Record

    @property
    def composes(self) -> bool:
        """Whether the prompt has two concepts or more. With fewer, CLoRA is inactive, whatever the method."""
        return self.composed.compositions[0].composes


class Stopped(Exception):
    """The user stopped the job."""


JobEvent = Progress | Drawn
_Send = Callable[[JobEvent | BaseException | None], None]

_TITLES = {"clora": "CLoRA", "merge": "Plain merge"}


@dataclass(frozen=True)
class _Loaded:
    pipe: Any
    layout: Callable[[ResolvedText], PromptTokens]


class Engine:
    """The models of all tabs (the embedded one and the checkpoint loaded last), used by one job at a time."""

    def __init__(self, device: str | None = None) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._models: dict[Path | None, _Loaded] = {}
        self._plans = PlanStore()

    def load(self, source: Path | None) -> Sampling:
        """Load a model; returns its default sampling values. Raises: CLoRAError; the loaded models stay loaded."""
        with self._lock:
            return Sampling().checked(self._model(source).pipe)

    def layout(self, source: Path | None) -> Callable[[ResolvedText], PromptTokens] | None:
        """The token positions of a text, None unless the model is loaded."""
        loaded = self._models.get(source)
        return loaded.layout if loaded else None

    def draw(self, job: Job, stop: threading.Event) -> Iterator[JobEvent]:
        """Draw what `job` asks for, then plain merge from the same seed; yields the progress of every step.

        Setting `stop` or closing the iterator ends the job at its next step.
        Raises: CLoRAError for a user's error, Stopped after `stop` was set.
        """
        events: queue.Queue[JobEvent | BaseException | None] = queue.Queue()
        threading.Thread(target=self._work, args=(job, events.put, stop), daemon=True).start()
        try:
            while (item := _next_event(events)) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()

    def _model(self, source: Path | None) -> _Loaded:
        if source not in self._models:
            pipe = load_pipeline(source, device=self._device)
            # Token positions are read while a job runs, and a tokenizer must not be used from two threads.
            encoding, tokenizer = TextEncoding(pipe), copy.deepcopy(pipe.tokenizer)
            embedded: dict[Path | None, _Loaded] = {key: one for key, one in self._models.items() if key is None}
            self._models = {**embedded, source: _Loaded(pipe, lambda text: encoding.layout(text, tokenizer))}
        return self._models[source]

    def _work(self, job: Job, send: _Send, stop: threading.Event) -> None:
        waiting = False
        while not self._lock.acquire(timeout=0.1):
            if stop.is_set():
                return send(Stopped())
            if not waiting:
                send(Progress("Waiting for another picture or model to finish"))
            waiting = True
        try:
            self._draw_both(job, send, stop)
        except Exception as error:
            send(error)
        finally:
            self._lock.release()
            send(None)

    def _draw_both(self, job: Job, send: _Send, stop: threading.Event) -> None:
        send(Progress("Loading the LoRAs"))
        pipe = self._model(job.session.model).pipe
        seed = secrets.randbelow(2**32) if job.seed < 0 else job.seed
        composition = composition_of(job.prompt, "", job.session)
        if job.only_plans and composition is not None:
            check_active(composition.note)
        # With nothing to compose, and for plain merge itself, one picture is enough. Errors come from compose().
        inactive = composition is not None and not composition.composes
        single = inactive or job.only_plans or job.settings.method == "merge"
        total = job.steps * (1 if single else 2)
        for merged in (inactive or job.settings.method == "merge",) if single else (False, True):
            settings = job.settings.replace(method="merge") if merged else job.settings
            settings = settings_of_plan(settings) if job.only_plans else settings
            record = Record(settings, job.steps)
            title = "Without CLoRA" if inactive else _TITLES.get(settings.method, settings.method.capitalize())
            watch = _watch(record, send, stop, job.steps if merged and not single else 0, total, title)
            plan = None if merged and not job.only_plans else self._plan_of(job, composition, seed, settings)
            composed = compose(
                pipe, job.prompt, loras=job.session.loras, negative_prompt=job.negative, seed=seed, steps=job.steps,
                guidance=job.guidance, width=job.width, height=job.height, settings=settings, observer=watch,
                corrections=job.painted, plan=plan,
            )  # fmt: skip
            send(Drawn(composed, merged, record))

    def _plan_of(self, job: Job, composition: Composition | None, seed: int, settings: Settings) -> PlanUse | None:
        """What a job does with a plan; one that only plans has a note that says so."""
        if job.plan is None or composition is None:
            return None
        about = {
            "the prompt": composition.text,
            "the negative prompt": job.negative,
            "a LoRA that is on everywhere": str((*composition.styles, *composition.off)),
            "the seed": str(seed),
            "the size": f"{job.width} x {job.height}",
            "the checkpoint": str(job.session.model or "embedded"),
            "the number of steps": str(job.steps),
            "the guidance scale": f"{job.guidance:g}",
            "Look ahead": f"{settings.look_ahead:g}",
        }
        count = schedule(settings, job.steps).look_ahead
        notes = [MADE.format(count=count, steps=job.steps)] if job.only_plans else []
        return PlanUse(job.plan, self._plans, about, notes)


def _next_event(events: queue.Queue[Any]) -> Any:
    """The next event; of several waiting progress events only the last."""
    item = events.get()
    while isinstance(item, Progress) and not events.empty():
        item = events.get()
    return item


def _watch(
    record: Record, send: _Send, stop: threading.Event, before: int, total: int, title: str
) -> Callable[[Event], None]:
    """An observer that sends the progress; `before` steps of `total` are already done."""

    def watch(event: Event) -> None:
        if stop.is_set():
            raise Stopped
        record(event)
        if isinstance(event, Updated):
            send(Progress(f"{title}: {event.phase}", before + event.step, total))
            return
        send(Progress(f"{title}: step {event.index + 1}", before + event.index + 1, total))

    return watch
