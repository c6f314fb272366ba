"""Plans: where the subjects of a batch will be, known before its first step, and the pictures that go on from them.

A plan is what a look-ahead finds. A job may make one and end with it; a later job that would look ahead in the same way
takes its masks from there, and its picture is the one that it would be without the plan, bit by bit.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..conditioning.plan import ImagePlan
from ..errors import CLoRAError, shown
from ..models.denoiser import Denoiser, Row
from ..settings import Settings

MAX_NAME = 100
"""Characters of a plan's name."""
REACH = 0.15
"""Fraction of the steps that a plan looks ahead where the setting is 0: three of twenty steps."""
MADE = (
    "This is a plan, after {count} of {steps} steps: draw, move or paint places on it, and press Generate with the "
    "same seed to go on from it."
)
"""A note for the user."""
_LIMIT = 8
_ONLY = " only"

Masks = tuple[Tensor, ...]


@dataclass(frozen=True)
class PlanRequest:
    """What a job wants with the plan `name`: go on from it, or make it and end there (`only`)."""

    name: str = ""
    only: bool = False

    def __post_init__(self) -> None:
        if len(self.name) > MAX_NAME:
            raise CLoRAError(f"The plan's name has {len(self.name)} characters: use at most {MAX_NAME}.")

    @classmethod
    def of_text(cls, text: str) -> PlanRequest | None:
        """From the panel's text: empty, the name of a plan to go on from, or a name and "only"."""
        name = text.strip()
        if not name:
            return None
        return cls(name.removesuffix(_ONLY), only=True) if name.endswith(_ONLY) else cls(name)


def settings_of_plan(settings: Settings) -> Settings:
    """A job's settings if it only plans: it looks ahead in any case, and shows its masks and nothing else."""
    return settings.replace(
        look_ahead=settings.look_ahead or REACH, show_masks=True, show_maps=False, show_loss=False, show_merge=False,
        detail=False,
    )  # fmt: skip


def check_active(note: str) -> None:
    """Raises: CLoRAError for a plan of a prompt that is not composed; its `note` says why."""
    if note:
        raise CLoRAError(f"Plan: there is nothing to plan, because CLoRA is inactive for this prompt. {note}")


@dataclass(frozen=True)
class Plan:
    """Masks (1 + N, h, w) of each image and its subjects' centres (N + M, 2), None without concepts, and its rough
    pictures: x0 (B, C, h, w).
    """

    masks: tuple[Tensor | None, ...]
    rough: Tensor
    centres: tuple[Tensor | None, ...]

    def on(self, device: torch.device | str) -> Plan:
        """The same on a device; centres stay on the CPU."""
        masks = tuple(None if mask is None else mask.to(device) for mask in self.masks)
        return Plan(masks, self.rough.to(device), self.centres)


@dataclass
class _Kept:
    plan: Plan
    inputs: str
    about: Mapping[str, str]
    told: set[str] = field(default_factory=set)


class PlanStore:
    """The plans made last, at most eight, by name; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock, self._plans = threading.Lock(), OrderedDict[str, _Kept]()

    def keep(self, name: str, kept: _Kept) -> None:
        """Keep a plan, and let go of the oldest if there are too many."""
        with self._lock:
            self._plans[name] = kept
            self._plans.move_to_end(name)
            while len(self._plans) > _LIMIT:
                self._plans.popitem(last=False)

    def get(self, name: str) -> _Kept | None:
        """The plan of this name, None if there is none or none any more."""
        with self._lock:
            return self._plans.get(name)


class PlanMade(Exception):
    """Ends a run that only plans: the plan, and its masks (V, h, w) after the user's regions, for each image."""

    def __init__(self, plan: Plan, masks: Masks) -> None:
        super().__init__("the plan is made")
        self.plan, self.masks = plan, masks


def _end(plan: Plan, masks: Masks) -> None:
    raise PlanMade(plan, masks)


Done = Callable[[Plan, Masks], None]
"""Called with a plan, and with its masks after the user's regions; ends the run by an exception."""


class PlanUse:
    """What one job does with a plan; notes for the user go to `notes`.

    `about` says by name what the plan depends on besides the model's inputs, for the reason why it is not used.
    """

    def __init__(
        self, request: PlanRequest, store: PlanStore, about: Mapping[str, str], notes: list[str], done: Done = _end
    ) -> None:  # fmt: skip
        self.request, self.notes = request, notes
        self._store, self._about, self._done = store, about, done

    def recall(self, inputs: str) -> Plan | None:
        """The plan that was made with the same inputs, else None, with a note."""
        kept = self._store.get(self.request.name) if self.request.name else None
        if kept is None:
            return None
        why = self._difference(kept, inputs)
        if not why:
            return kept.plan
        if not self.request.only:
            self._tell(kept, f"The plan is not used, because {why}.")
        return None

    def unused(self, why: str) -> None:
        """The run does not look ahead. Raises: CLoRAError if it was to make a plan and nothing else."""
        if self.request.only:
            raise CLoRAError(f"Plan: there is nothing to plan, because {why}.")
        kept = self._store.get(self.request.name) if self.request.name else None
        if kept is not None:
            self._tell(kept, f"The plan is not used, because {why}.")

    def made(self, plan: Plan, inputs: str, masks: Masks) -> None:
        """Keep a plan that was made or recalled; ends the run if the job wants nothing else."""
        if not self.request.only:
            return
        if self.request.name:
            self._store.keep(self.request.name, _Kept(plan.on("cpu"), inputs, dict(self._about)))
        self._done(plan, masks)

    def _difference(self, kept: _Kept, inputs: str) -> str:
        names = {*kept.about, *self._about}
        for name in sorted(names, key=lambda one: list(self._about).index(one) if one in self._about else 99):
            if kept.about.get(name) != self._about.get(name):
                return f"{name} changed" + _from_to(kept.about.get(name), self._about.get(name))
        return "" if kept.inputs == inputs else "an extension or an option changed"

    def _tell(self, kept: _Kept, note: str) -> None:
        if note not in kept.told:
            kept.told.add(note)
            self.notes.append(note)


def _from_to(before: str | None, now: str | None) -> str:
    short = all(text is not None and 0 < len(text) <= 40 for text in (before, now))
    return f" from {shown(before)} to {shown(now)}" if short else ""


def fingerprint(
    latent: Tensor, plans: Sequence[ImagePlan], denoiser: Denoiser, reach: float, count: int, guidance: float
) -> str:
    """A hash of everything that a look-ahead reads: two with the same one find the same."""
    given = denoiser.conditioning(tuple(Row(i, 0, half) for half in (True, False) for i in range(len(plans))))
    words = [plan.places for plan in plans]
    found = hashlib.sha256(repr((reach, count, guidance, denoiser.signal, tuple(latent.shape), words)).encode())
    for tensor in (latent, given.contexts, given.vectors):
        if tensor is not None:
            found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
