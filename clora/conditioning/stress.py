"""Each subject's variant stresses its own words against those of the other subjects.

All variants have the whole text, so that all of them know how many subjects there are. A LoRA often wants its subject
elsewhere than the base does; where its place is, its variant then reads another subject's words and draws none of its
look. Vectors are multiplied, as the WebUIs' emphasis `(word:1.4)` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..prompt import PromptTokens, Variant
from .encoding import Encoded


def stressed(found: Encoded, tokens: PromptTokens, variant: Variant, subject: int, factor: float) -> Encoded:
    """`found`, the context of a text with `tokens`, with the words of `subject` times `factor` and those of the other
    subjects divided by it. Words that two subjects share stay as they are.

    `subject` counts the concepts, then the subjects without a LoRA.
    """
    subjects = (*variant.subjects, *variant.others)
    own = {*tokens.positions(subjects[subject]), *tokens.positions(variant.triggers)}
    elsewhere = [spans for number, spans in enumerate(subjects) if number != subject]
    others = {row for spans in elsewhere for row in tokens.positions(spans)}
    scales = torch.ones(len(tokens.sources), dtype=torch.float32)
    scales[sorted(own - others)] = factor
    scales[sorted(others - own)] = 1 / factor
    return replace(found, context=found.context * _along(scales, found.context).to(found.context)[:, None])


def _along(scales: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Scales of all rows of a context (L, D): the text's own, the same repeated, or filled up with another text's.

    Hosts fill up the shorter texts of one call themselves, so that only the rows tell what the context is.
    """
    length, rows = len(scales), context.shape[0]
    if rows % length == 0 and torch.equal(context, context[:length].repeat(rows // length, 1)):
        return scales.repeat(rows // length)
    return torch.cat([scales, torch.ones(rows - length)])


def stresses(variants: Sequence[Variant], number: int, conditional: bool, factor: float) -> bool:
    """Whether the row of variant `number` of an image with `variants` stresses words."""
    return factor != 1.0 and conditional and number > 0 and len(variants[number].subjects) > 1
