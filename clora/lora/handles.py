"""Hooks of CLoRA on the host's modules, and whether they are still there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch.utils.hooks import RemovableHandle

from ..errors import CLoRAError


def check_hooks(handles: Iterable[RemovableHandle]) -> None:
    """Raises: CLoRAError if a hook of CLoRA is gone, so that what it does was missing without a word."""
    for handle in handles:
        hooks = handle.hooks_dict_ref()
        if hooks is None or handle.id not in hooks:
            raise CLoRAError(
                "Another extension has removed CLoRA's hooks from the model while the picture was drawn: turn off the "
                "extension that does so."
            )


@contextmanager
def removed_at_end(handles: list[RemovableHandle]) -> Iterator[None]:
    """Removes the hooks of `handles` on every way out of this block. Raises: CLoRAError if one was gone before."""
    try:
        yield
        check_hooks(handles)
    finally:
        for handle in handles:
            handle.remove()
