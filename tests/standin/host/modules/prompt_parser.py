"""Texts with the sizes SDXL wants, and scheduling of the simple form [before:after:when]."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

_EDIT = re.compile(r"\[([^:\[\]]*):([^:\[\]]*):([\d.]+)\]")


class ScheduledPromptConditioning(NamedTuple):
    """A context and the last step it holds at."""

    end_at_step: int
    cond: Tensor


Schedules = list[list[ScheduledPromptConditioning]]
"""For each prompt its contexts in order."""


@dataclass
class ComposableScheduledPromptConditioning:
    """One of the texts that AND joins."""

    schedules: list[ScheduledPromptConditioning]
    weight: float = 1.0


@dataclass
class MulticondLearnedConditioning:
    """A batch of prompts."""

    batch: list[list[ComposableScheduledPromptConditioning]]


class SdConditioning(list):  # type: ignore[type-arg]
    """A list of texts that knows the picture's size."""

    def __init__(
        self, prompts: Sequence[str], is_negative_prompt: bool = False, width: int | None = None,
        height: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(prompts)
        self.is_negative_prompt, self.width, self.height = is_negative_prompt, width, height


def prompt_schedule(text: str, steps: int, first_steps: int | None) -> list[tuple[int, str]]:
    """(last step, text) in order. In a hires pass fractions run from 1 to 2 and steps from `first_steps`."""

    def last(when: str) -> int:
        if "." in when:
            return int((float(when) - (0 if first_steps is None else 1)) * steps)
        return int(when) - (first_steps or 0)

    ends = sorted({end for _, _, when in _EDIT.findall(text) if 1 <= (end := last(when)) <= steps} | {steps})
    return [(end, _EDIT.sub(lambda m, end=end: m[2] if end > last(m[3]) else m[1], text)) for end in ends]


def schedules(sd_model: Any, prompts: Sequence[str], steps: int, first_steps: int | None = None) -> Schedules:
    """Every prompt's texts, each prompt's in one call, encoded by the model as it is now."""
    found = []
    for prompt in prompts:
        ends, texts = zip(*prompt_schedule(prompt, steps, first_steps), strict=True)
        contexts = sd_model.get_learned_conditioning(SdConditioning(texts))
        found.append([ScheduledPromptConditioning(*pair) for pair in zip(ends, contexts, strict=True)])
    return found


def multicond(conds: Schedules) -> MulticondLearnedConditioning:
    """Prompts without AND."""
    return MulticondLearnedConditioning([[ComposableScheduledPromptConditioning(one)] for one in conds])


def at_step(conds: Schedules | MulticondLearnedConditioning, step: int) -> Tensor:
    """The contexts (B, L, D) of one evaluation; shorter ones are filled with their last vector."""
    if isinstance(conds, MulticondLearnedConditioning):
        conds = [one[0].schedules for one in conds.batch]
    now = [next((c for end, c in one if step <= end), one[-1][1]) for one in conds]
    length = max(len(context) for context in now)
    return torch.stack([torch.cat([c, c[-1:].expand(length - len(c), -1)]) for c in now])
