"""What CLoRA asks of a WebUI's loaded model: the part that A1111 and Forge do differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from ..conditioning.batch import StepConditioning
from ..conditioning.encoding import Encoded
from ..errors import CLoRAError
from ..lora.rows import RowLoras
from ..models.denoiser import Denoiser, Row
from ..prompt import PromptTokens, ResolvedText, encode_layout
from ..settings import Settings
from .embeddings import Database


@dataclass(frozen=True)
class Evaluation:
    """What the host evaluates now: `sigma` (B,) (a timestep for timestep samplers) and the rows' conditioning."""

    sigma: Tensor
    conditioning: StepConditioning


class HostDenoiser(Denoiser, Protocol):
    """A denoiser that is moved to each evaluation of a sampling pass."""

    def at(self, evaluation: Evaluation) -> None:
        """Evaluate here from now on."""
        ...


@dataclass(frozen=True)
class SamplerPosition:
    """Where a sampler is: `evaluation` counts the host's calls from 0, `steps` is what the sampler will run.

    `fraction` is the part of the noise that is gone, by timesteps.
    """

    evaluation: int
    steps: int
    second_order: bool
    adaptive: bool
    fraction: float


def sampler_position(sampler: Any, evaluation: int, timestep: float, first_timestep: float) -> SamplerPosition:
    """Where a sampler is at its call `evaluation` with a timestep (0..999), after it began at `first_timestep`."""
    denoiser, config = sampler.model_wrap_cfg, getattr(sampler, "config", None)
    return SamplerPosition(
        evaluation=evaluation,
        steps=int(denoiser.steps or denoiser.total_steps or 1),
        second_order=bool(getattr(config, "options", {}).get("second_order", False)),
        adaptive="adaptive" in str(getattr(sampler, "funcname", "")),
        fraction=1.0 - timestep / max(first_timestep, 1e-6),
    )


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
        """The latent after the late update, None if there is none."""
        ...

    def ended(self, why: str) -> None:
        """The host goes on without CLoRA (a refiner took over)."""
        ...

    def failed(self) -> None:
        """An evaluation failed or was interrupted, so the pass has ended and its hooks are removed."""
        ...


class WebUIModel(Protocol):
    """The loaded model of a host."""

    @property
    def unet(self) -> nn.Module:
        """The UNet whose layers LoRAs and the attention probe hook."""
        ...

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """ "text_encoder" and, with SDXL, "text_encoder_2"."""
        ...

    @property
    def embedding_databases(self) -> Sequence[Database]:
        """The host's textual inversions."""
        ...

    @property
    def pads_prompts(self) -> bool:
        """Whether the host fills up the shorter of prompt and negative prompt with the empty prompt."""
        ...

    def check(self, settings: Settings) -> None:
        """Raises: CLoRAError for a model or a state of the host that CLoRA cannot compose with."""
        ...

    def check_kind(self) -> None:
        """Raises: CLoRAError for a model that is no SD 1.5, SD 2.x or SDXL."""
        ...

    def layout(self, text: ResolvedText) -> PromptTokens:
        """The chunks of a text, as the host's tokenizer makes them. Raises: CLoRAError for a model of another kind."""
        ...

    def encode(self, texts: Sequence[str], *, negative: bool, width: int, height: int) -> list[Encoded]:
        """The texts in one batch, one context each."""
        ...

    def denoiser(self, loras: RowLoras, host_denoiser: Any) -> HostDenoiser:
        """The rows' denoiser for one sampling pass."""
        ...

    def attach(self, processing: Any, handler: EvaluationHandler, denoiser: HostDenoiser) -> Callable[[], None]:
        """Let `handler` answer the evaluations of this pass; returns a function that removes every hook."""
        ...


def other_kind(sd_model: Any) -> CLoRAError:
    """The error for a model that is no SD 1.5, SD 2.x or SDXL."""
    return CLoRAError(
        f"CLoRA cannot compose with this model ({type(sd_model).__name__}): choose an SD 1.5, SD 2.x or SDXL "
        "checkpoint."
    )


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter of the module requires gradients inside this block, which saves their memory."""
    # Inference tensors never reach autograd, and setting requires_grad on them raises.
    trained = [name for name, p in module.named_parameters() if p.requires_grad and not p.is_inference()]
    try:
        for name in trained:
            module.get_parameter(name).requires_grad_(False)
        yield
    finally:
        for name in trained:  # by name: offloading puts new parameters in their places
            module.get_parameter(name).requires_grad_(True)


def host_layout(
    engine: Any, text: ResolvedText, embeddings: Any, *, chunk_length: int, comma_backtrack: int
) -> PromptTokens:
    """A text's chunks by a host's text engine, with the characters of the text that each token stands for.

    Raises: CLoRAError if the host's own chunks differ, because positions would then point at other words.
    """

    def embedding_at(ids: Sequence[int], index: int) -> tuple[Sequence[int], int] | None:
        embedding, length = embeddings.find_embedding_at_position(list(ids), index)
        return None if embedding is None else ((0,) * int(embedding.vectors), int(length))

    layout = encode_layout(
        text, lambda piece: list(engine.tokenize([piece])[0]), bos=engine.id_start, eos=engine.id_end,
        pad=engine.id_end, chunk_length=chunk_length, comma_id=engine.comma_token, comma_backtrack=comma_backtrack,
        embedding_at=embedding_at,
    )  # fmt: skip
    chunks, _ = engine.tokenize_line(str(text))
    if [tuple(int(token) for token in chunk.tokens) for chunk in chunks] != list(layout.chunks):
        raise CLoRAError(
            f'The WebUI splits the prompt "{str(text)[:60]}" into other tokens than CLoRA expects, so CLoRA cannot '
            "find words in it: set Emphasis to Original in the WebUI's settings, and turn off extensions that change "
            "prompts."
        )
    return layout
