"""What CLoRA asks of a WebUI's loaded model: the part that A1111 and Forge do differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import CLoRAError
from ..lora.rows import RowLoras
from ..models.denoiser import Conditioned, Denoiser, Row
from ..prompt import PromptTokens, ResolvedText, encode_layout


@dataclass(frozen=True)
class Encoded:
    """`context` (L, D) of one text and SDXL's `vector` (A,), None for SD 1.5 and 2.x."""

    context: Tensor
    vector: Tensor | None


@dataclass(frozen=True)
class Evaluation:
    """What the host evaluates now: `sigma` (B,) (a timestep for timestep samplers), `contexts` and LoRA set by row."""

    sigma: Tensor
    contexts: Mapping[Row, Encoded]
    set_of: Mapping[tuple[int, int], int]

    def conditioning(self, rows: Sequence[Row]) -> Conditioned:
        """The rows' contexts (R, L, D), LoRA sets and SDXL's vectors (R, A)."""
        encoded = [self.contexts[row] for row in rows]
        vectors = [one.vector for one in encoded if one.vector is not None]
        sets = [self.set_of[row.image, row.variant] for row in rows]
        context = torch.stack([one.context for one in encoded])
        return Conditioned(context, sets, torch.stack(vectors) if vectors else None)


class HostDenoiser(Denoiser, Protocol):
    """A denoiser that is moved to each evaluation of a sampling pass."""

    def at(self, evaluation: Evaluation) -> None:
        """Evaluate here from now on."""
        ...


class EvaluationHandler(Protocol):
    """What CLoRA does at each evaluation of the host's denoiser (see `clora.webui.sampling_pass`)."""

    @property
    def rows(self) -> Sequence[Row]:
        """Every row of the batch."""
        ...

    def before(self, x: Tensor, sigma: Tensor, position: SamplerPosition) -> Tensor:
        """The sampler's latent after the updates of this step, (B, C, h, w)."""
        ...

    def predict(self, x: Tensor, guidance: bool) -> tuple[Tensor, Tensor | None]:
        """Fused conditional and unconditional predictions (B, C, h, w) at `x`."""
        ...

    def unconditional(self) -> Tensor:
        """The unconditional prediction that `predict` left out."""
        ...

    def after(self) -> Tensor | None:
        """The latent after the late update, None where there is none."""
        ...

    def ended(self, why: str) -> None:
        """The host goes on without CLoRA (a refiner took over)."""
        ...


@dataclass(frozen=True)
class SamplerPosition:
    """Where a sampler is: `evaluation` counts the host's calls from 0, `steps` is what the sampler will run."""

    evaluation: int
    steps: int
    second_order: bool
    adaptive: bool
    fraction: float


class WebUIModel(Protocol):
    """The loaded model of a host."""

    @property
    def unet(self) -> nn.Module:
        """The UNet whose layers LoRAs and taps are put on."""
        ...

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """ "text_encoder" and, with SDXL, "text_encoder_2"."""
        ...

    @property
    def pads_prompts(self) -> bool:
        """Whether the host fills the shorter of prompt and negative prompt up with the empty prompt."""
        ...

    def check(self, settings: Any) -> None:
        """Errors: CLoRAError for a model or a state of the host that CLoRA cannot compose with."""
        ...

    def layout(self, text: ResolvedText) -> PromptTokens:
        """Chunks and positions of a text, as the host's tokenizer has them."""
        ...

    def encode(self, texts: Sequence[str], *, negative: bool, width: int, height: int) -> list[Encoded]:
        """The texts in one batch, row i text i."""
        ...

    def denoiser(self, loras: RowLoras, host_denoiser: Any) -> HostDenoiser:
        """The rows' denoiser for one sampling pass."""
        ...

    def attach(self, processing: Any, handler: EvaluationHandler, denoiser: HostDenoiser) -> Callable[[], None]:
        """Let `handler` answer the evaluations of this pass; returns a function that removes every hook."""
        ...


def sampler_position(sampler: Any, evaluation: int, t: float, first_t: float) -> SamplerPosition:
    """Where a sampler is at its call `evaluation` with timestep `t` (0..999), after beginning at `first_t`."""
    denoiser, config = sampler.model_wrap_cfg, getattr(sampler, "config", None)
    return SamplerPosition(
        evaluation=evaluation,
        steps=int(denoiser.steps or denoiser.total_steps or 1),
        second_order=bool(getattr(config, "options", {}).get("second_order", False)),
        adaptive="adaptive" in str(getattr(sampler, "funcname", "")),
        fraction=1.0 - t / max(first_t, 1e-6),
    )


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter of the module asks for gradients inside this block, which saves their memory."""
    # Inference tensors never reach autograd, and refuse to be told.
    asking = [p for p in module.parameters() if p.requires_grad and not p.is_inference()]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def host_layout(engine: Any, text: ResolvedText, embeddings: Any, comma_backtrack: int) -> PromptTokens:
    """A text's chunks by a host's text engine, with the places in the text that each token stands for.

    Errors: CLoRAError where the host's own chunks differ, because positions would then point at other words.
    """

    def embedding_at(ids: Sequence[int], place: int) -> tuple[int, int] | None:
        embedding, length = embeddings.find_embedding_at_position(list(ids), place)
        return None if embedding is None else (int(embedding.vectors), int(length))

    layout = encode_layout(
        text, lambda piece: list(engine.tokenize([piece])[0]), bos=engine.id_start, eos=engine.id_end,
        pad=engine.id_end, comma_id=engine.comma_token, comma_backtrack=comma_backtrack, embedding_at=embedding_at,
    )  # fmt: skip
    chunks, _ = engine.tokenize_line(str(text))
    if [tuple(int(token) for token in chunk.tokens) for chunk in chunks] != list(layout.chunks):
        raise CLoRAError(
            f'The WebUI splits the prompt "{str(text)[:60]}" into other tokens than CLoRA expects, so words cannot be '
            "found: set Emphasis to Original in the WebUI's settings, and turn off extensions that change prompts."
        )
    return layout
