"""Pretrained models of `transformers`: loading without progress output, and an identity for stored results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..errors import CLoRAError
from ..hosts.diffusers.libraries import quiet
from .store import digest

Hash = Callable[[Path], str]


def load(source: str, what: str, model: Any, processor: Any) -> tuple[Any, Any]:
    """A pretrained model in float32 and its processor, from a folder or hub id. Raises: CLoRAError."""
    try:
        with quiet():
            found = model.from_pretrained(source, torch_dtype=torch.float32).eval()
            return found, processor.from_pretrained(source)
    except Exception as error:  # the library raises many types: files, network, formats, shapes
        reason = " ".join(str(error).split())[:160].rstrip(" .,:;")
        raise CLoRAError(
            f'The {what} model "{source}" cannot be loaded ({reason}): use an existing folder or a reachable hub id.'
        ) from error


def identity(kind: str, source: str, content: Hash, model: Any) -> str:
    """Identifies a model: by the content of its files, or by its hub id and revision."""
    path = Path(source).expanduser()
    if path.exists():
        return digest([kind, content(path)])
    revision = None
    with suppress(AttributeError):
        revision = model.config._commit_hash
    return digest([kind, source, revision])
