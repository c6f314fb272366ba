"""What a host encodes: texts with LoRAs on, and contexts of one length for the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..lora.bundled import BundledEmbedding
from ..prompt import PromptTokens, ResolvedText
from .lora_sets import LoraSets


@dataclass(frozen=True)
class Encoded:
    """`context` (L, D) of one text, and SDXL's pooled `vector` (A,), None for SD 1.5 and 2.x.

    `filled` counts the last rows of the context that only fill it up to the length of longer ones.
    """

    context: Tensor
    vector: Tensor | None
    filled: int = 0


LONGEST = 1024
"""Rows of a context that are worth their memory to keep the images of a batch independent: 13 chunks of CLIP."""

GroupKey = tuple[tuple[str, ...], int, bool]
"""Texts, LoRA set, and whether they are negative prompts."""


@dataclass(frozen=True)
class TextGroup:
    """The scheduled texts of one row, encoded with the LoRAs of set `lora_set`; `negative` for negative prompts."""

    texts: tuple[ResolvedText, ...]
    lora_set: int
    negative: bool

    @property
    def key(self) -> GroupKey:
        """Groups with the same key have the same contexts."""
        return tuple(str(text) for text in self.texts), self.lora_set, self.negative


class TextEncoder(Protocol):
    """The text encoders of a loaded model, used as the host itself uses them."""

    def layout(self, text: ResolvedText) -> PromptTokens:
        """The chunks of a text, as the host's tokenizer makes them."""
        ...

    def encode_groups(self, groups: Sequence[TextGroup], sets: LoraSets) -> list[list[Encoded]]:
        """The contexts of every group's texts, all of one length."""
        ...

    def with_embeddings(self, embeddings: Sequence[BundledEmbedding]) -> AbstractContextManager[Sequence[str]]:
        """A block in which the words of textual inversions stand for their vectors, in layouts too.

        It gives the words that it leaves out because their vectors do not fit the model's encoders.
        """
        ...


def encode_once(encoder: TextEncoder, groups: Sequence[TextGroup], sets: LoraSets) -> list[list[Encoded]]:
    """The contexts of every group's texts; groups with the same texts and LoRAs are encoded once."""
    distinct: dict[GroupKey, TextGroup] = {}
    for group in groups:
        distinct.setdefault(group.key, group)
    encoded = dict(zip(distinct, encoder.encode_groups(list(distinct.values()), sets), strict=True))
    return [encoded[group.key] for group in groups]


def equal_length(groups: Sequence[list[Encoded]], empty: Callable[[], Encoded] | None) -> list[list[Encoded]]:
    """All contexts at one length, as the WebUIs bring prompt and negative prompt to one length.

    Without `empty`, contexts are repeated up to a common multiple: a context that is repeated as a whole gives the
    same attention as once. With it, they are filled up with the context of the empty prompt, which `empty` encodes.
    """
    lengths = {one.context.shape[0] for group in groups for one in group}
    if len(lengths) == 1:
        return list(groups)
    if empty is None:
        length = math.lcm(*lengths)
        return [[_repeated(one, length) for one in group] for group in groups]
    filling = empty()
    return [[_filled(one, filling, max(lengths)) for one in group] for group in groups]


def _repeated(one: Encoded, length: int) -> Encoded:
    return Encoded(one.context.repeat(length // one.context.shape[0], 1), one.vector)


def _filled(one: Encoded, filling: Encoded, length: int) -> Encoded:
    missing = (length - one.context.shape[0]) // filling.context.shape[0]
    return Encoded(torch.cat([one.context, *[filling.context] * missing]), one.vector, length - one.context.shape[0])


def independent(images: Sequence[Sequence[list[Encoded]]]) -> tuple[list[list[list[Encoded]]], bool]:
    """The contexts of every image's groups, filled up as if the image were drawn alone, all of one length.

    A host fills up the texts of a batch to the longest of all images, which changes the pictures of the others. Here an
    image is filled up to its own longest text, and repeated up to the common length: a context that is repeated as a
    whole gives the same attention as once. False with it if that would be longer than `LONGEST`: the contexts are as
    they were then, if they have one length.
    """
    every = {one.context.shape[0] for groups in images for group in groups for one in group}
    own = [max(one.context.shape[0] - one.filled for group in groups for one in group) for groups in images]
    length = math.lcm(*own)
    if len(set(own)) == 1 or (length > LONGEST and len(every) == 1):
        return [list(groups) for groups in images], len(set(own)) == 1
    cut = [
        [[_repeated(Encoded(one.context[:rows], one.vector), length) for one in group] for group in groups]
        for groups, rows in zip(images, own, strict=True)
    ]
    return cut, True
