"""Textual inversions: a database, empty at first."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any


class EmbeddingDatabase:
    """Words by their first token, the longest first."""

    def __init__(self) -> None:
        self.ids_lookup: dict[int, list[tuple[list[int], Any]]] = {}
        self.word_embeddings: dict[str, Any] = {}
        self.expected_shape = 16

    def find_embedding_at_position(self, tokens: Sequence[int], offset: int) -> tuple[Any, int | None]:
        """(embedding, how many tokens it replaces)."""
        for ids, embedding in self.ids_lookup.get(tokens[offset], []):
            if list(tokens[offset : offset + len(ids)]) == list(ids):
                return embedding, len(ids)
        return None, None


model_hijack = SimpleNamespace(embedding_db=EmbeddingDatabase())
