"""Prompt texts -> contexts for the text encoders of a diffusers pipeline, each text with its own LoRAs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...conditioning.encoding import Encoded, TextGroup
from ...conditioning.lora_sets import LoraSets
from ...lora.bundled import BundledEmbedding
from ...lora.resolve import AppliedLora
from ...lora.rows import RowLoras
from ...models import family_of
from ...models.memory import ONE_TEXT, RowLimit
from ...prompt import PromptTokens, ResolvedText, encode_layout
from .devices import compute_device

"""Tokens of one chunk of CLIP, with BOS and EOS."""


@dataclass(frozen=True)
class Text:
    """One text to encode: `resolved` (the text of some step) with the LoRAs of set `lora_set`.

    `empty` asks for zeros instead (SDXL's empty negative prompt). `tokens` are used instead of tokenizing the text.
    """

    resolved: ResolvedText
    lora_set: int
    empty: bool = False
    tokens: PromptTokens | None = None

    @property
    def key(self) -> tuple[str, int, bool]:
        """Texts with the same key have the same context."""
        return str(self.resolved), self.lora_set, self.empty


class TextEncoding:
    """The text encoders and tokenizers of a pipeline, as the pipeline itself uses them (SD and SDXL)."""

    def __init__(self, pipe: Any, clip_skip: int = 0) -> None:
        self.pipe = pipe
        self.clip_skip = clip_skip
        self.chunk_length = family_of(pipe.unet).text_chunk
        second = getattr(pipe, "text_encoder_2", None)
        self.sdxl = second is not None
        pairs = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")]
        self.encoders = {
            encoder: (getattr(pipe, encoder), getattr(pipe, tokenizer))
            for encoder, tokenizer in pairs
            if getattr(pipe, encoder, None) is not None
        }
        self._bundled: list[tuple[list[int], tuple[int, ...]]] = []
        self._vectors: dict[str, Tensor] = {}

    @contextmanager
    def with_embeddings(self, embeddings: Sequence[BundledEmbedding]) -> Iterator[tuple[str, ...]]:
        """Inside this block the words of textual inversions have ids below 0: -1 is the first of their vectors."""
        fits = [one for one in embeddings if self._fits(one)]
        first = 0
        for one in fits:
            ids = tuple(-1 - number for number in range(first, first + one.count))
            self._bundled.append((_tokenize(self.pipe.tokenizer, one.name), ids))
            first += one.count
        # The longest first, as the WebUIs look for them.
        self._bundled.sort(key=lambda pair: len(pair[0]), reverse=True)
        self._vectors = {name: torch.cat([one.vectors[name] for one in fits]) for name in self.encoders if fits}
        try:
            yield tuple(one.name for one in embeddings if one not in fits)
        finally:
            self._bundled, self._vectors = [], {}

    def _fits(self, embedding: BundledEmbedding) -> bool:
        widths = {name: encoder.get_input_embeddings().embedding_dim for name, (encoder, _) in self.encoders.items()}
        return {name: own.shape[-1] for name, own in embedding.vectors.items() if name in widths} == widths

    def _embedding_at(self, ids: Sequence[int], index: int) -> tuple[Sequence[int], int] | None:
        found = (one for one in self._bundled if one[0] and list(ids[index : index + len(one[0])]) == one[0])
        return next(((vectors, len(word)) for word, vectors in found), None)

    def layout(self, text: ResolvedText, tokenizer: Any = None) -> PromptTokens:
        """Chunks of 77 token ids with weights and sources (A1111's layout), by one of the pipeline's tokenizers.

        SDXL's two tokenizers have the same vocabulary, so positions by the first hold for both.
        """
        tokenizer = self.pipe.tokenizer if tokenizer is None else tokenizer

        tokenize = partial(_tokenize, tokenizer)
        comma = tokenize(",")
        return encode_layout(
            text,
            tokenize,
            bos=tokenizer.bos_token_id,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            chunk_length=self.chunk_length,
            comma_id=comma[0] if len(comma) == 1 else None,
            embedding_at=self._embedding_at if self._bundled else None,
        )

    def encode_groups(self, groups: Sequence[TextGroup], sets: LoraSets) -> list[list[Encoded]]:
        """The contexts of every group's texts: every distinct text once, all in one batch and of one length."""
        zeros = bool(getattr(self.pipe.config, "force_zeros_for_empty_prompt", False))
        wanted = [
            [Text(text, group.lora_set, zeros and group.negative and not str(text)) for text in group.texts]
            for group in groups
        ]
        distinct = {text.key: text for texts in wanted for text in texts}
        encoded = dict(zip(distinct, self.encode(list(distinct.values()), sets), strict=True))
        return [[encoded[text.key] for text in texts] for texts in wanted]

    @torch.no_grad()
    def encode(self, texts: Sequence[Text], sets: Sequence[Sequence[AppliedLora]]) -> list[Encoded]:
        """Encode all texts in one batch, each with its LoRA set; all contexts get the same length."""
        outputs: list[list[Tensor]] = []
        pooled: list[Tensor | None] = [None] * len(texts)
        filled = [0] * len(texts)
        for name, (encoder, tokenizer) in self.encoders.items():
            layouts = [text.tokens or self.layout(text.resolved, tokenizer) for text in texts]
            contexts, vectors = self._run(name, encoder, tokenizer, layouts, [t.lora_set for t in texts], sets)
            outputs.append(contexts)
            pooled = list(vectors) if vectors is not None else pooled
            longest = max(len(layout.chunks) for layout in layouts)
            filled = [(longest - len(layout.chunks)) * (self.chunk_length + 2) for layout in layouts]
        encoded = []
        for index, text in enumerate(texts):
            context = torch.cat([part[index] for part in outputs], dim=-1)
            vector = pooled[index]
            if text.empty:
                context, vector = torch.zeros_like(context), None if vector is None else torch.zeros_like(vector)
            encoded.append(Encoded(context, vector, filled[index]))
        return encoded

    def _run(
        self, name: str, encoder: Any, tokenizer: Any, layouts: Sequence[PromptTokens], text_sets: Sequence[int],
        sets: Sequence[Sequence[AppliedLora]],
    ) -> tuple[list[Tensor], list[Tensor] | None]:  # fmt: skip
        """Contexts (chunks * 77, D) of one encoder for every text, and SDXL's pooled vectors (D) where it has them.

        Raises: CLoRAError if memory runs out with a single chunk.
        """
        count, size = max(len(layout.chunks) for layout in layouts), self.chunk_length + 2  # with start and end
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        # A text with fewer chunks than the longest is filled up with chunks of the empty prompt.
        blank = (tokenizer.bos_token_id, tokenizer.eos_token_id, *([pad] * self.chunk_length))
        ids, weights = [], []
        for layout in layouts:
            missing = count - len(layout.chunks)
            ids += [*layout.chunks, *([blank] * missing)]
            weights += [*layout.weights, *([(1.0,) * size] * missing)]
        rows = [lora_set for lora_set in text_sets for _ in range(count)]

        hidden, vectors = self._hidden_in_pieces(name, encoder, ids, rows, sets)
        hidden = emphasize(hidden, torch.tensor(weights, device=hidden.device, dtype=hidden.dtype))
        contexts = list(hidden.reshape(len(layouts), count * size, -1))
        return contexts, None if vectors is None else list(vectors.reshape(len(layouts), count, -1)[:, 0])

    def _hidden_in_pieces(
        self, name: str, encoder: Any, ids: Sequence[Sequence[int]], rows: Sequence[int],
        sets: Sequence[Sequence[AppliedLora]],
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """`_hidden` of all chunks at once, or of as many as fit into memory."""

        def attempt(most: int) -> tuple[Tensor, Tensor | None]:
            step = most or len(ids)
            pieces = [slice(start, start + step) for start in range(0, len(ids), step)]
            parts = [
                self._hidden(name, encoder, torch.tensor(ids[own], device=compute_device(encoder)), rows[own], sets)
                for own in pieces
            ]
            pooled = [vectors for _, vectors in parts if vectors is not None]
            return torch.cat([hidden for hidden, _ in parts]), torch.cat(pooled) if pooled else None

        return RowLimit(0, sentence=ONE_TEXT).run(len(ids), attempt)

    def _hidden(
        self, name: str, encoder: Any, ids: Tensor, rows: Sequence[int], sets: Sequence[Sequence[AppliedLora]]
    ) -> tuple[Tensor, Tensor | None]:
        """The layer that conditions the UNet, (rows, 77, D), as the pipeline chooses it, and the pooled output."""
        with ExitStack() as stack:
            loras = RowLoras(name, encoder, sets)
            stack.enter_context(loras.installed())
            stack.enter_context(loras.rows(rows))
            stack.enter_context(_default_dtype(encoder.dtype))
            stack.enter_context(_replaced(encoder.get_input_embeddings(), ids, self._vectors.get(name)))
            out = encoder(ids.clamp_min(0), output_hidden_states=True)
        if self.sdxl:
            vectors = out.text_embeds if name == "text_encoder_2" else None
            return out.hidden_states[-(self.clip_skip + 2)], vectors
        if self.clip_skip == 0:
            return out.last_hidden_state, None
        norm = encoder.text_model.final_layer_norm
        return norm(out.hidden_states[-(self.clip_skip + 1)]), None


def _tokenize(tokenizer: Any, words: str) -> list[int]:
    ids: list[int] = tokenizer(words, add_special_tokens=False, truncation=False, verbose=False).input_ids
    return ids


@contextmanager
def _replaced(layer: nn.Module, ids: Tensor, vectors: Tensor | None) -> Iterator[None]:
    """Where `ids` (rows, 77) are below 0, the token embedding gives `vectors` (n, D): the first one for -1."""
    if vectors is None or not bool((ids < 0).any()):
        yield
        return

    def replace(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        own = vectors.to(output)[(-1 - ids).clamp_min(0)]
        return torch.where((ids < 0)[..., None], own, output)

    handle = layer.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


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

    The WebUI's "Original" emphasis. Rows whose weights are all 1 are returned unchanged.
    """
    if bool((weights == 1.0).all()):
        return hidden
    weighted = hidden * weights[..., None]
    factor = hidden.mean(dim=(1, 2), keepdim=True) / weighted.mean(dim=(1, 2), keepdim=True)
    restored = torch.where(torch.isfinite(factor), weighted * factor, weighted)
    return torch.where((weights == 1.0).all(dim=1)[:, None, None], hidden, restored)


def added_conditions(vectors: Tensor | None, height: int, width: int) -> dict[str, Tensor]:
    """SDXL's added conditions of R rows: pooled vectors (R, A) and picture sizes (R, 6), without cropping."""
    if vectors is None:
        return {}
    size = torch.tensor([height, width, 0, 0, height, width], device=vectors.device, dtype=vectors.dtype)
    return {"text_embeds": vectors, "time_ids": size.expand(len(vectors), 6)}
