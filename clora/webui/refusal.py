"""Errors that end a job of the host.

The host catches exceptions of scripts and continues without the script. An error is therefore kept and raised where the
host does not catch it: when it parses the prompts, or at the sampler's first evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import CLoRAError
from ..hosts import host_api


def caught(action: Callable[[], None]) -> CLoRAError | None:
    """The error that `action` raises, None if it succeeds. An unexpected exception becomes a CLoRAError too."""
    try:
        action()
    except CLoRAError as error:
        return error
    except Exception as error:
        host_api.log_error("CLoRA failed")
        return CLoRAError(f"CLoRA failed ({type(error).__name__}: {error}): see the console, and please report it.")
    return None


def refuse_at_prompts(p: Any, error: CLoRAError) -> None:
    """End the job when the host parses the prompts, before it loads a LoRA."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        del p.parse_extra_network_prompts
        raise host_api.RefusedError(str(error))

    p.parse_extra_network_prompts = refuse


def refuse_at_sampling(p: Any, error: CLoRAError) -> None:
    """End the job at the sampler's first evaluation."""

    def refuse(*args: Any) -> None:
        handle.remove()
        raise host_api.RefusedError(str(error))

    handle = p.sampler.model_wrap_cfg.register_forward_pre_hook(refuse)
