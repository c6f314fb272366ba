"""The parts of the base model: building, loading, saving, and pictures for contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from clora.embedded import EMBEDDED_MODEL

CHANNELS: dict[str, tuple[int, ...]] = {
    "small": (48, 80, 128, 128),
    "middle": (64, 96, 160, 160),
    "large": (64, 128, 192, 192),
}
TEXT_WIDTH = 64
VOCABULARY = EMBEDDED_MODEL / "tokenizer"


def new_unet(size: str = "middle") -> UNet2DConditionModel:
    """Stable Diffusion 1.5's block layout with few channels."""
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=CHANNELS[size],
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )


def new_text_encoder() -> CLIPTextModel:
    """A small causal CLIP text encoder with the full vocabulary and 77 positions."""
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    )


def new_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer."""
    return CLIPTokenizer.from_pretrained(VOCABULARY)


class Tokens:
    """Token ids of captions, and counts of tokens of their pieces; both keep what they have seen."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self._pieces = cache(lambda piece: tuple(tokenizer(piece, add_special_tokens=False).input_ids))

    def count(self, piece: str) -> int:
        """How many tokens a piece of a caption has."""
        return len(self._pieces(piece))

    def ids(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """77 tokens each (rows, 77), padded with the end token; captions come as lists of pieces."""
        rows = []
        for pieces in captions:
            tokens = [token for piece in pieces for token in self._pieces(piece)][:75]
            rows.append([49406, *tokens, *[49407] * (76 - len(tokens))])
        return torch.tensor(rows)
