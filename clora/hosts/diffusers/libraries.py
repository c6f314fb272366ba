"""The libraries that load models: without their output, and on a device that works."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from ...errors import CLoRAError


def working_device(wanted: str | torch.device | None) -> torch.device:
    """The named device; by default CUDA if there is one, else the CPU. Raises: CLoRAError if it does not work."""
    try:
        return torch.empty(0, device=wanted or ("cuda" if torch.cuda.is_available() else "cpu")).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CLoRAError(f'The device "{wanted}" cannot be used here: use cpu, or leave it out.') from error


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and progress bars of diffusers and transformers inside this block."""
    libraries = (diffusers_logging, transformers_logging)
    before = [(library, library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity(library.CRITICAL)  # errors are raised anyway
            library.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, verbosity, bars in before:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
