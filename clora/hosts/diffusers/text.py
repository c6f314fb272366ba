"""Prompt texts -> contexts for the text encoders of a diffusers pipeline, each text with its own LoRAs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...lora.resolve import AppliedLora
from ...lora.rows import RowLoras
from ...prompt import PromptTokens, ResolvedText, encode_layout

CHUNK = 77


@dataclass(frozen=True)
class Text:
    """One text to encode: `resolved` (scheduling settled) with the LoRAs of set `lora_set`.

    `empty` asks for zeros instead (SDXL's empty negative prompt). `tokens` are chunks made elsewhere, which go in as
    they are.
    """

    resolved: ResolvedText
    lora_set: int
    empty: bool = False
    tokens: PromptTokens | None = None


@dataclass(frozen=True)
class Encoded:
    """`context` (L, D) of one text, its `pooled` vector (SDXL, else None) and where its tokens stand."""

    context: Tensor
    pooled: Tensor | None
    tokens: PromptTokens


class TextEncoding:
    """The text encoders and tokenizers of a pipeline, as the pipeline itself uses them (SD and SDXL)."""

    def __init__(self, pipe: Any, clip_skip: int = 0) -> None:
        self.pipe = pipe
        self.clip_skip = clip_skip
        second = getattr(pipe, "text_encoder_2", None)
        self.sdxl = second is not None
        pairs = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")]
        self.encoders = {
            encoder: (getattr(pipe, encoder), getattr(pipe, tokenizer))
            for encoder, tokenizer in pairs
            if getattr(pipe, encoder, None) is not None
        }

    def layout(self, text: ResolvedText, tokenizer: Any) -> PromptTokens:
        """Chunks of 77 token ids with weights and positions (A1111's layout), by a pipeline's tokenizer."""

        def tokenize(words: str) -> list[int]:
            ids: list[int] = tokenizer(words, add_special_tokens=False, truncation=False, verbose=False).input_ids
            return ids

        comma = tokenize(",")
        return encode_layout(
            text,
            tokenize,
            bos=tokenizer.bos_token_id,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            comma_id=comma[0] if len(comma) == 1 else None,
        )

    @torch.no_grad()
    def encode(self, texts: Sequence[Text], sets: Sequence[Sequence[AppliedLora]]) -> list[Encoded]:
        """Encode all texts in one batch, each row with its text's LoRA set; all contexts get the same length."""
        outputs: list[list[Tensor]] = []
        pooled: list[Tensor | None] = [None] * len(texts)
        layouts: list[PromptTokens] = []
        for name, (encoder, tokenizer) in self.encoders.items():
            own = [text.tokens or self.layout(text.resolved, tokenizer) for text in texts]
            layouts = layouts or own
            contexts, vectors = self._run(name, encoder, tokenizer, own, [t.lora_set for t in texts], sets)
            outputs.append(contexts)
            pooled = list(vectors) if vectors is not None else pooled
        encoded = []
        for index, text in enumerate(texts):
            context = torch.cat([part[index] for part in outputs], dim=-1)
            vector = pooled[index]
            if text.empty:
                context, vector = torch.zeros_like(context), None if vector is None else torch.zeros_like(vector)
            encoded.append(Encoded(context, vector, layouts[index]))
        return encoded

    def _run(
        self, name: str, encoder: Any, tokenizer: Any, layouts: Sequence[PromptTokens], text_sets: Sequence[int],
        sets: Sequence[Sequence[AppliedLora]],
    ) -> tuple[list[Tensor], list[Tensor] | None]:  # fmt: skip
        """Contexts (chunks * 77, D) of one encoder for every text, and SDXL's pooled vectors (D) where it has them."""
        count = max(len(layout.chunks) for layout in layouts)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        # A text with fewer chunks than the longest is filled with chunks of the empty prompt.
        blank = (tokenizer.bos_token_id, tokenizer.eos_token_id, *([pad] * (CHUNK - 2)))
        ids, weights = [], []
        for layout in layouts:
            missing = count - len(layout.chunks)
            ids += [*layout.chunks, *([blank] * missing)]
            weights += [*layout.weights, *([(1.0,) * CHUNK] * missing)]
        rows = [lora_set for lora_set in text_sets for _ in range(count)]
        hidden, vectors = self._hidden(name, encoder, torch.tensor(ids, device=encoder.device), rows, sets)
        hidden = emphasize(hidden, torch.tensor(weights, device=hidden.device, dtype=hidden.dtype))
        contexts = list(hidden.reshape(len(layouts), count * CHUNK, -1))
        return contexts, None if vectors is None else list(vectors.reshape(len(layouts), count, -1)[:, 0])

    def _hidden(
        self, name: str, encoder: Any, ids: Tensor, rows: Sequence[int], sets: Sequence[Sequence[AppliedLora]]
    ) -> tuple[Tensor, Tensor | None]:
        """The layer that conditions the UNet, (rows, 77, D), as the pipeline picks it, and the pooled output."""
        with ExitStack() as stack:
            loras = RowLoras(name, encoder, sets)
            stack.enter_context(loras.installed())
            stack.enter_context(loras.rows(rows))
            stack.enter_context(_default_dtype(encoder.dtype))
            out = encoder(ids, output_hidden_states=True)
        if self.sdxl:
            vectors = out.text_embeds if name == "text_encoder_2" else None
            return out.hidden_states[-(self.clip_skip + 2)], vectors
        if self.clip_skip == 0:
            return out.last_hidden_state, None
        norm = encoder.text_model.final_layer_norm
        return norm(out.hidden_states[-(self.clip_skip + 1)]), None


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """float64 encoders need it: transformers fills its causal mask with the dtype's minimum in the default dtype."""
    before = torch.get_default_dtype()
    try:
        if dtype == torch.float64:
            torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(before)


def emphasize(hidden: Tensor, weights: Tensor) -> Tensor:
    """Multiply token embeddings (rows, 77, D) by their prompt weights (rows, 77) and keep each row's mean.

    The WebUI's "Original" emphasis. Rows whose weights are all 1 come back untouched.
    """
    if bool((weights == 1.0).all()):
        return hidden
    weighted = hidden * weights[..., None]
    factor = hidden.mean(dim=(1, 2), keepdim=True) / weighted.mean(dim=(1, 2), keepdim=True)
    restored = torch.where(torch.isfinite(factor), weighted * factor, weighted)
    return torch.where((weights == 1.0).all(dim=1)[:, None, None], hidden, restored)


def pooled_texts(encoded: Mapping[Any, Encoded], rows: Sequence[Any]) -> Tensor | None:
    """SDXL's pooled texts (R, A) of rows, None for other models."""
    vectors = [encoded[row].pooled for row in rows]
    return None if any(v is None for v in vectors) else torch.stack([v for v in vectors if v is not None])


def added_conditions(pooled: Tensor | None, height: int, width: int) -> dict[str, Tensor]:
    """SDXL's extra conditions for rows: pooled texts (R, A) and picture sizes (R, 6), no crop."""
    if pooled is None:
        return {}
    size = torch.tensor([height, width, 0, 0, height, width], device=pooled.device, dtype=pooled.dtype)
    return {"text_embeds": pooled, "time_ids": size.expand(len(pooled), 6)}
