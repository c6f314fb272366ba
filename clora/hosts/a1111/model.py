"""A1111's loaded model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modules import devices, lowvram, sd_hijack, sd_unet, shared
from torch import nn

from ...conditioning.encoding import Encoded
from ...errors import CLoRAError
from ...lora.rows import RowLoras
from ...models import family_of
from ...prompt import PromptTokens, ResolvedText
from ...settings import Settings
from .. import host_api
from ..embeddings import Database
from ..protocol import EvaluationHandler, host_layout, other_kind
from .denoiser import A1111Denoiser
from .engine import A1111Engine
from .hook import A1111SamplerHook


class A1111Model(A1111Engine):
    """`clora.hosts.protocol.WebUIModel` for A1111's SD 1.5, SD 2.x and SDXL models."""

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """The text models inside the host's wrappers."""
        return {
            name: engine.wrapped
            for name, engine in zip(("text_encoder", "text_encoder_2"), self.text_engines, strict=False)
        }

    @property
    def embedding_databases(self) -> Sequence[Database]:
        """One for all encoders. A1111 puts the vectors into an activation as they are, without moving them."""
        engine, known = self.text_engines[0], sd_hijack.model_hijack.embedding_db
        return [Database(known, lambda word: list(engine.tokenize([word])[0]), devices.device)]

    @property
    def pads_prompts(self) -> bool:
        """The WebUI's option "Pad prompt/negative prompt"."""
        return bool(host_api.option("pad_cond_uncond", False))

    def check(self, settings: Settings) -> None:
        """Raises: CLoRAError for models and states that CLoRA cannot compose with."""
        if getattr(self.sd_model, "cond_stage_key", "") == "edit":
            raise CLoRAError("CLoRA cannot compose with an InstructPix2Pix model: choose a text-to-image checkpoint.")
        if getattr(self.sd_model.model, "conditioning_key", "") == "crossattn-adm":
            raise CLoRAError("CLoRA cannot compose with an unCLIP model: choose a text-to-image checkpoint.")
        self.check_kind()
        if sd_unet.current_unet is not None:
            raise CLoRAError(
                "The WebUI uses another UNet (TensorRT, for example), which CLoRA cannot hook: set SD Unet to None in "
                "the WebUI's settings."
            )
        if shared.cmd_opts.lowvram and lowvram.is_enabled(self.sd_model) and settings.updates:
            raise CLoRAError(
                "The latent update cannot run with --lowvram: start the WebUI with --medvram, or set Update until to 0."
            )

    def check_kind(self) -> None:
        """Raises: CLoRAError for a model that is no SD 1.5, SD 2.x or SDXL."""
        if not self.text_engines or not hasattr(self.text_engines[0], "wrapped"):
            raise other_kind(self.sd_model)

    def layout(self, text: ResolvedText) -> PromptTokens:
        """The chunks of a text, as the host's tokenizer makes them. Raises: CLoRAError for a model of another kind."""
        self.check_kind()
        engine, database = self.text_engines[0], sd_hijack.model_hijack.embedding_db
        backtrack = host_api.option("comma_padding_backtrack", 20)
        length = family_of(self.unet).text_chunk
        return host_layout(engine, text, database, chunk_length=length, comma_backtrack=backtrack)

    def encode(self, texts: Sequence[str], *, negative: bool, width: int, height: int) -> list[Encoded]:
        """The texts in one batch, one context each."""
        return host_api.encode(self.sd_model, texts, negative=negative, width=width, height=height)

    def denoiser(self, loras: RowLoras, host_denoiser: Any) -> A1111Denoiser:
        """The rows' denoiser for one sampling pass."""
        return A1111Denoiser(self, loras, timesteps=hasattr(host_denoiser, "alphas"))

    def attach(self, processing: Any, handler: EvaluationHandler, denoiser: A1111Denoiser) -> Callable[[], None]:
        """Let `handler` answer the evaluations of this pass; returns a function that removes every hook."""
        return A1111SamplerHook(self, processing.sampler, handler, denoiser).remove
