"""Errors that end a job of the host.

The host catches exceptions of scripts and continues without the script. An error is therefore kept and raised where the
host does not catch it: when it parses the prompts, or at the sampler's first evaluation.

reForge and Forge Classic draw the page's jobs in a thread that only prints an exception, so that their page shows an
error about the missing result. There such a job ends as an interrupted one does: the pictures that were finished
before, and the sentence where the host shows its comments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..errors import CLoRAError
from ..hosts import host_api
from ..hosts.selectable import script_at_work

_ENDED = "_clora_ended"
"""Attribute of a job that has ended in this way: the number of the batch."""
_TELL = "_clora_tell"
"""Attribute of an inner job, whose errors are caught outside: what is called with them first."""


class _Blank(list[Any]):
    """Pictures in the place of those that were not sampled, in the form of decoded samples (3, H, W)."""

    already_decoded = True


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
    if _is_lost(p):
        _instead_of_sampling(p, lambda *args, **kwargs: _end(p, error))
        return

    def refuse(*args: Any, **kwargs: Any) -> None:
        del p.parse_extra_network_prompts
        _tell(p, error)
        raise host_api.RefusedError(str(error))

    p.parse_extra_network_prompts = refuse


def refuse_at_sampling(p: Any, error: CLoRAError) -> None:
    """End the job at the sampler's first evaluation."""

    def refuse(*args: Any) -> None:
        handle.remove()
        raise host_api.RefusedError(str(error))

    handle = p.sampler.model_wrap_cfg.register_forward_pre_hook(refuse)


def watch_sampling(p: Any) -> None:
    """Where the host loses exceptions, end the job in its own way if CLoRA refuses it while this batch is sampled.

    An inner job tells its error.
    """
    lost = _is_lost(p)
    if not lost and not hasattr(p, _TELL):
        return
    own = p.sample

    def sample(*args: Any, **kwargs: Any) -> Any:
        try:
            return own(*args, **kwargs)
        except host_api.RefusedError as error:
            if lost:
                return _end(p, error)
            _tell(p, error)
            raise

    _instead_of_sampling(p, sample)


def without_blanks(p: Any, processed: Any) -> None:
    """Take the pictures of the batch that was not drawn out of a job's result."""
    number = vars(p).pop(_ENDED, None)
    if number is None:
        return
    # A batch may have given masks beside its pictures, as many in each. The page wants an infotext in any case.
    for found, least in ((processed.images, 0), (processed.infotexts, 1)):
        del found[max(least, len(found) * number // (number + 1)) :]


def work_inside(p: Any, tell: Callable[[Exception], None] | None) -> None:
    """This is an inner job: who draws it catches its errors. `tell` is called with one by which CLoRA ends it."""
    setattr(p, _TELL, tell)


def _tell(p: Any, error: Exception) -> None:
    tell = getattr(p, _TELL, None)
    if tell is not None:
        tell(error)


def _is_lost(p: Any) -> bool:
    """Whether nobody would see an exception of this job.

    A selectable script makes its own result of the pictures, and an inner job's errors are caught outside.
    """
    return host_api.loses_errors(p) and not script_at_work(p) and not hasattr(p, _TELL)


def _instead_of_sampling(p: Any, sample: Callable[..., Any]) -> None:
    """Call `sample` once in the place of the job's own method."""

    def once(*args: Any, **kwargs: Any) -> Any:
        vars(p).pop("sample", None)
        return sample(*args, **kwargs)

    p.sample = once


def _end(p: Any, error: CLoRAError) -> _Blank:
    p.comment(str(error))
    host_api.interrupt()
    p.do_not_save_samples = p.do_not_save_grid = True
    setattr(p, _ENDED, int(p.iteration))
    return _Blank(torch.zeros(3, p.height, p.width) for _ in p.prompts)
