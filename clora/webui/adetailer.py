"""ADetailer's boxes: each is repainted with the one concept that is in it.

ADetailer repaints the boxes that it detects (faces) by inner img2img jobs with the whole prompt, after the picture is
decoded. It keeps only scripts in them that its own settings name, so CLoRA's hooks are not called there. Its inner jobs
have a copy of the job's script runner: CLoRA gives the job a copy of the host's runner with a `before_process` and a
`postprocess_image` of its own, for the time of this job. With look guidance a copy of CLoRA's script takes part in the
inner job, and composes the one concept in all of it, as in a detail pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor

from ..prompt import Composition
from ..prompt.alone import prompt_alone
from ..ui.request import Request
from .detail import request_alone
from .job import Generation
from .refusal import caught

INNER = "_ad_inner"
"""Attribute of ADetailer's inner jobs."""
_IN = 0.2
"""Part of a box that a concept's mask covers, above which the concept is in it."""
_ALSO = 0.5
"""Part of the largest cover, above which another concept is in the box too."""


def follow(
    p: Any, generation: Generation, first: Callable[[Any], None], composing: Callable[[Request], Any]
) -> Callable[[], None]:
    """Watch the inner jobs of this job, if the host has ADetailer; returns a function that ends it.

    `first` is called with each picture of the job before ADetailer, which is loaded before CLoRA, repaints it.
    `composing` gives an always-visible script that composes an inner job by a request.
    """
    runner: Any = getattr(p, "scripts", None)
    scripts = getattr(runner, "alwayson_scripts", None) or ()
    if not any(script.title().strip().lower() == "adetailer" for script in scripts):
        return lambda: None
    own, of_runners = copy(runner), type(runner)

    def before_process(job: Any) -> None:
        if getattr(job, INNER, False):
            error = caught(lambda: _choose(p, job, generation, composing))
            if error is not None:
                generation.notes.append(str(error))
        of_runners.before_process(job.scripts, job)

    def postprocess_image(job: Any, pp: Any) -> None:
        if job is p:
            first(pp)
        of_runners.postprocess_image(job.scripts, job, pp)

    own.before_process, own.postprocess_image = before_process, postprocess_image
    p.scripts = own

    def end() -> None:
        if p.scripts is own:
            p.scripts = runner

    return end


def _choose(p: Any, job: Any, generation: Generation, composing: Callable[[Request], Any]) -> None:
    """Give the inner job of one box the prompt of the concept in the box, if it is one and the prompt is the job's."""
    _take_part(p, job, None)
    image = int(p.batch_index)
    drawn = generation.of_batch(image)
    whole = p.all_prompts[int(p.iteration) * p.batch_size + image]
    if drawn is None or drawn.shown.masks is None or whole not in job.prompt:
        return
    found = concepts_in(job.image_mask, drawn.shown.masks[1:])
    if len(found) == 1:
        job.prompt = job.prompt.replace(whole, prompt_alone(drawn.composition, found[0]))
        concept, settings = drawn.composition.concepts[found[0]], generation.request.settings
        request = request_alone(job.prompt, drawn.composition, concept, settings)
        script = None if request is None else composing(request)
        if script is not None:
            script.tell = lambda error: generation.notes.append(f"ADetailer ended at a box: {error}")
        _take_part(p, job, script)
    else:
        generation.notes.append(_several(drawn.composition, found))


def _take_part(p: Any, job: Any, script: Any) -> None:
    """Let this copy of CLoRA's script take part in an inner job, and no other; None lets none.

    The inner jobs of all boxes share one copy of the runner, in which the copy for the box before may be left.
    """
    runner = job.scripts
    if runner is None or runner is p.scripts:
        return
    others = [
        one for one in runner.alwayson_scripts
        if type(one) is not type(script) and not isinstance(getattr(one, "request", None), Request)
    ]  # fmt: skip
    runner.alwayson_scripts, runner.callback_map = others if script is None else [*others, script], {}


def concepts_in(box: Any, masks: Sequence[Tensor] | Tensor) -> list[int]:
    """The concepts whose mask (h, w) lies in a box, which is a picture with the box in white on black."""
    found = []
    for mask in masks:
        area = box.convert("L").resize((mask.shape[1], mask.shape[0]))
        inside = torch.tensor(list(area.getdata()), dtype=torch.float32).view_as(mask) / 255
        found.append(float((inside * mask).sum() / inside.sum().clamp(min=1e-6)))
    most = max(found, default=0.0)
    return [number for number, share in enumerate(found) if share >= max(_IN, _ALSO * most)]


def _several(composition: Composition, found: Sequence[int]) -> str:
    what = " and ".join(composition.concepts[number].quoted for number in found) or "no concept"
    return (
        f"A box of ADetailer has {what} in it and is repainted with all LoRAs: if that is not what you want, detect "
        "smaller parts, or write a prompt of its own in ADetailer."
    )
