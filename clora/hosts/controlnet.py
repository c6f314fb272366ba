"""ControlNet beside inner jobs: its hints belong to the whole picture, an inner job draws a crop of it.

The Forges' own ControlNet crops its hints with the inner job's mask and keeps its state in attributes of the script, so
a copy of the script takes part. The extension for AUTOMATIC1111 has hooks in the UNet from the start of a job to its
end: they are taken off for the inner jobs, and then put on again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from modules.processing import Processed


def scripts_of_inner_job(p: Any) -> list[Any]:
    """The always-visible scripts that take part in an inner job of `p`: no other than the Forges' ControlNet."""
    return [copy(script) for script in _controlnets(p)] if _is_forge(p) else []


@contextmanager
def without_hints(p: Any) -> Iterator[None]:
    """No hint of AUTOMATIC1111's ControlNet acts in this block; the job `p` goes on with them after it."""
    found = [] if _is_forge(p) else _controlnets(p)
    for script in found:
        script.postprocess(copy(p), Processed(p, []), *_arguments(p, script))
    try:
        yield
    finally:
        for script in found:  # after the last picture, too: then it adds its maps to the gallery
            for begin in ("before_process", "process"):
                getattr(script, begin)(copy(p), *_arguments(p, script))


def _controlnets(p: Any) -> list[Any]:
    scripts = getattr(p.scripts, "alwayson_scripts", None) or ()
    return [script for script in scripts if str(script.title()).strip().lower() == "controlnet"]


def _arguments(p: Any, script: Any) -> Any:
    return p.script_args[script.args_from : script.args_to]


def _is_forge(p: Any) -> bool:
    return hasattr(p.sd_model, "forge_objects")
