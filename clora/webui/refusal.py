"""Refusals that end a job of the host.

The host swallows what a script raises and goes on without it. So a refusal is kept and raised from the next place
where the host does not swallow it: its parsing of the prompt, or the sampler's first evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import CLoRAError
from ..hosts import host_api


def caught(action: Callable[[], None]) -> CLoRAError | None:
    """The refusal that `action` ends with. What is not a user's mistake ends the job too, with its own text."""
    try:
        action()
    except CLoRAError as error:
        return error
    except Exception as error:
        host_api.log_error("CLoRA failed")
        return CLoRAError(f"CLoRA failed ({type(error).__name__}: {error}): see the console, and please report it.")
    return None


def refuse_at_prompts(p: Any, refusal: CLoRAError) -> None:
    """End the job where the host parses prompts, before a LoRA is loaded."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        del p.parse_extra_network_prompts
        raise host_api.RefusedError(str(refusal))

    p.parse_extra_network_prompts = refuse


def refuse_at_sampling(p: Any, refusal: CLoRAError) -> None:
    """End the job at the sampler's first evaluation."""

    def refuse(*args: Any) -> None:
        handle.remove()
        raise host_api.RefusedError(str(refusal))

    handle = p.sampler.model_wrap_cfg.register_forward_pre_hook(refuse)
