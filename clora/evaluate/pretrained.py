"""Pretrained models of `transformers`: loaded quietly, and named so that others are not taken for them."""

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
    """A pretrained model in float32 and its processor, by folder or hub id. Errors: CLoRAError."""
    try:
        with quiet():
            found = model.from_pretrained(source, torch_dtype=torch.float32).eval()
            return found, processor.from_pretrained(source)
    except Exception as error:  # what can go wrong is a library's affair: files, network, formats, shapes
        reason = " ".join(str(error).split())[:160].rstrip(" .,:;")
        raise CLoRAError(
            f'The {what} model "{source}" cannot be loaded ({reason}): name a folder or a hub id that can be reached.'
        ) from error


def identity(kind: str, source: str, content: Hash, model: Any) -> str:
    """Names a model: by its files where it is a folder or file, else by its id and the hub's revision."""
    path = Path(source).expanduser()
    if path.exists():
        return digest([kind, content(path)])
    revision = None
    with suppress(AttributeError):
        revision = model.config._commit_hash
    return digest([kind, source, revision])
