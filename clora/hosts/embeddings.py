"""Textual inversions of LoRA files in a WebUI's own database, for the time in which CLoRA encodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..lora.bundled import BundledEmbedding

_KEYS = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


class Database(NamedTuple):
    """A host's textual inversions, the tokenizer of their words, and where the host wants vectors (None: anywhere)."""

    host: Any
    tokenize: Callable[[str], list[int]]
    device: torch.device | None = None


@dataclass
class HostEmbedding:
    """What A1111 and Forge read of a textual inversion: `vec` (n, D), by the encoder's key where there are two."""

    name: str
    vec: Tensor | dict[str, Tensor]
    vectors: int
    shape: int
    shorthash: str = ""

    @staticmethod
    def checksum() -> str:
        """Shown by old versions of A1111 beside the name."""
        return ""


@contextmanager
def registered(embeddings: Sequence[BundledEmbedding], database: Database) -> Iterator[list[str]]:
    """The words are in the host's database inside this block; gives the names that do not fit its model.

    A word that the user has in the embeddings folder stays the user's, as with the WebUI's own Lora extension.
    """
    host, before, unused = database.host, dict[int, Any](), list[str]()
    try:
        for one in embeddings:
            if one.name in host.word_embeddings:
                continue
            made, ids = _for_host(one, int(host.expected_shape), database.device), database.tokenize(one.name)
            if made is None or not ids:
                unused.append(one.name)
                continue
            known = host.ids_lookup.get(ids[0])
            before.setdefault(ids[0], known)
            # The longest word first, as the host sorts them; a new list, so that the host's own stays as it was.
            both = [*(known or []), (ids, made)]
            host.ids_lookup[ids[0]] = sorted(both, key=lambda pair: len(pair[0]), reverse=True)
        yield unused
    finally:
        for first, known in before.items():
            if known is None:
                del host.ids_lookup[first]
            else:
                host.ids_lookup[first] = known


def _for_host(one: BundledEmbedding, expected: int, device: torch.device | None) -> HostEmbedding | None:
    """The embedding for a model whose encoders are `expected` wide together (-1: unknown), None if it does not fit."""
    first = one.vectors.get("text_encoder")
    chosen = {"text_encoder": first} if first is not None and first.shape[-1] == expected else dict(one.vectors)
    width = sum(own.shape[-1] for own in chosen.values())
    if expected not in (-1, width):
        return None
    vec = {_KEYS[component]: own.float().to(device) for component, own in chosen.items()}
    return HostEmbedding(one.name, next(iter(vec.values())) if len(vec) == 1 else vec, one.count, width)
