"""Plans in a WebUI: a job that only plans ends as an interrupted one does, with the rough picture as its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..engine.plans import Plan, PlanStore, settings_of_plan
from ..hosts import host_api
from ..settings.infotext import PREFIX
from ..ui.request import Request

PLANS = PlanStore()
"""The plans of all tabs and of the API."""


def only_plans(request: Request) -> bool:
    """Whether a job ends with its plan."""
    return request.plan is not None and request.plan.only


def prepared(request: Request) -> Request:
    """The request of a job; one that only plans looks ahead in any case, and shows its masks and nothing else."""
    if not only_plans(request):
        return request
    return replace(request, settings=settings_of_plan(request.settings))


def keep_from_saving(p: Any) -> None:
    """The rough picture is no result: it is not saved, and nothing is repainted in it."""
    p.do_not_save_samples = p.do_not_save_grid = True
    p.restore_faces = False
    p._ad_disabled = True  # ADetailer's own mark of a job that it leaves alone


def about(p: Any, texts: Sequence[str], look_ahead: float) -> dict[str, str]:
    """What a plan depends on, by name, besides the inputs of the model; `texts` are the prompts the host gets."""
    others = {
        name: str(value) for name, value in p.extra_generation_params.items()
        if not name.startswith(PREFIX) and not callable(value)
    }  # fmt: skip
    model = [str(getattr(p, name, None) or "") for name in ("sd_model_name", "sd_model_hash", "sd_vae_name")]
    return {
        "the prompt": "\n".join(texts),
        "the negative prompt": "\n".join(p.negative_prompts),
        "the seed": ", ".join(map(str, p.seeds)),
        "the size": f"{p.width} x {p.height}",
        "the checkpoint": " ".join(filter(None, model)),
        "the sampler": f"{p.sampler_name} {getattr(p, 'scheduler', '') or ''}".strip(),
        "the number of steps": str(p.steps),
        "the guidance scale": f"{p.cfg_scale:g}",
        "Look ahead": f"{look_ahead:g}",
        "a setting of the WebUI or of another extension": str(sorted(others.items())),
    }


def end_with(p: Any, plan: Plan) -> None:
    """End the sampling as a click on Interrupt does; the host decodes the sampler's last latent, the rough picture."""
    p.sampler.last_latent = plan.rough
    host_api.interrupt()
    host_api.stop_if_interrupted()
