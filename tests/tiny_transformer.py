"""A second model family, made up for tests: a small diffusion transformer with true cross-attention.

Nothing in it is named or laid out as in a UNet: tokens are patches of 2 x 2 cells, the attention's projections are
`query`, `key`, `value` and `project`, the text comes as `text=`, and a latent cell is 16 pixels wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clora.lora.rows import RowLoras
from clora.lora.target import Target
from clora.models import CrossAttention, ModelFamily
from clora.models.denoiser import Conditioned, Row

PATCH, WIDTH, TEXT, HEADS, LENGTH = 2, 16, 12, 2, 9


class TextAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(TEXT, WIDTH, bias=False)
        self.value, self.project = nn.Linear(TEXT, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)

    def forward(self, states: Tensor, *, text: Tensor) -> Tensor:
        q, k, v = self.query(states), self.key(text), self.value(text)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        mixed: Tensor = self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return mixed


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reads_text, self.mlp = TextAttention(), nn.Linear(WIDTH, WIDTH)

    def forward(self, states: Tensor, text: Tensor) -> Tensor:
        states = states + self.reads_text(states, text=text)
        return states + torch.tanh(self.mlp(states))


class TinyTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(4, WIDTH, PATCH, PATCH)
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.pixels = nn.ConvTranspose2d(WIDTH, 4, PATCH, PATCH)

    def forward(self, latent: Tensor, text: Tensor) -> Tensor:
        grid = self.patches(latent)
        states = grid.flatten(2).transpose(1, 2)
        for layer in self.layers:
            states = layer(states, text)
        picture: Tensor = self.pixels(states.transpose(1, 2).unflatten(2, grid.shape[-2:]))
        return picture


class TinyTransformerFamily(ModelFamily):
    name = "tiny transformer"
    spatial_factor = 16
    text_chunk = LENGTH

    def matches(self, model: nn.Module) -> bool:
        return isinstance(model, TinyTransformer)

    def cross_attention(self, model: nn.Module) -> tuple[CrossAttention, ...]:
        named = [(name, module) for name, module in model.named_modules() if isinstance(module, TextAttention)]
        return tuple(
            CrossAttention(
                name, module, module.query, module.key, module.value, module.project, HEADS, 0.0, early=index == 0
            )
            for index, (name, module) in enumerate(named)
        )

    def map_grid(self, height: int, width: int) -> tuple[int, int]:
        return height // PATCH, width // PATCH

    def lora_targets(self, component: str, root: nn.Module) -> Mapping[str, Target]:
        linear = {name: module for name, module in root.named_modules() if isinstance(module, nn.Linear)}
        return {name.replace(".", "_"): Target(module, name) for name, module in linear.items()}

    def latent_scale(self, sigma: float) -> float:
        return 1.0

    def context(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        given: Tensor = kwargs["text"]
        return given

    def with_call(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], states: Tensor, context: Tensor
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (states,), {**kwargs, "text": context}


class TransformerDenoiser:
    """Rows of the transformer, each with the text and the LoRAs of its variant."""

    complete, signal = True, 0.5

    latent_scale = 1.0

    def __init__(self, model: TinyTransformer, loras: RowLoras, texts: Tensor) -> None:
        """`texts` (V, L, D): the context of each variant; the negative prompt is all zeros."""
        self.model, self.loras, self.texts = model, loras, texts

    def predict(self, latent: Tensor, rows: tuple[Row, ...], *, vectors: Tensor | None = None) -> Tensor:
        given = self.conditioning(rows)
        with self.loras.rows(given.sets):
            picture: Tensor = self.model(latent, given.contexts)
        return picture

    def denoised(self, latent: Tensor, signal: float, rows: tuple[Row, ...]) -> Tensor:
        noise = self.predict(latent * self.latent_scale, rows)
        return (latent - (1 - signal) ** 0.5 * noise) / signal**0.5

    def conditioning(self, rows: tuple[Row, ...]) -> Conditioned:
        texts = [self.texts[row.variant] if row.conditional else torch.zeros_like(self.texts[0]) for row in rows]
        return Conditioned(torch.stack(texts), [row.variant for row in rows])

    @contextmanager
    def gradients(self) -> Iterator[None]:
        self.model.requires_grad_(False)
        with torch.enable_grad():
            yield
