"""Forge's loaded model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...conditioning.encoding import Encoded
from ...errors import CLoRAError
from ...lora.rows import RowLoras
from ...models import family_of
from ...prompt import PromptTokens, ResolvedText
from ...settings import Settings
from .. import host_api
from ..embeddings import Database
from ..protocol import EvaluationHandler, host_layout, other_kind
from .denoiser import ForgeDenoiser
from .engine import ForgeEngine
from .hook import ForgeSamplerHook

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_PLAIN = (nn.Parameter, Tensor)


class ForgeModel(ForgeEngine):
    """`clora.hosts.protocol.WebUIModel` for Forge's SD 1.5, SD 2.x and SDXL engines."""

    def __init__(self, sd_model: Any) -> None:
        super().__init__(sd_model)
        self._engines = self.engines_of(sd_model)

    @staticmethod
    def engines_of(sd_model: Any) -> list[Any]:
        """The text engines that read prompts by chunks: one, SDXL's two, or none."""
        names = ("text_processing_engine", "text_processing_engine_l", "text_processing_engine_g")
        found = [getattr(sd_model, name, None) for name in names]
        return [engine for engine in found if hasattr(engine, "tokenize_line")]

    @property
    def embeddings(self) -> Any:
        """The textual inversions that the host has loaded."""
        return self._engines[0].embeddings

    @property
    def comma_backtrack(self) -> int:
        """How many tokens after a comma move to the next chunk with it; fixed in Forge."""
        return 20

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """Forge's CLIP text models."""
        engines = zip(("text_encoder", "text_encoder_2"), self._engines, strict=False)
        return {name: engine.text_encoder for name, engine in engines}

    @property
    def embedding_databases(self) -> Sequence[Database]:
        """One for each encoder."""

        def tokenizer(engine: Any) -> Callable[[str], list[int]]:
            return lambda word: list(engine.tokenize([word])[0])

        return [Database(engine.embeddings, tokenizer(engine)) for engine in self._engines]

    @property
    def pads_prompts(self) -> bool:
        """False: Forge repeats the shorter one."""
        return False

    def check(self, settings: Settings) -> None:
        """Raises: CLoRAError for models and states that CLoRA cannot compose with."""
        self.check_kind()
        if "model_function_wrapper" in self.patcher.model_options:
            raise CLoRAError(
                "Another extension has wrapped the UNet (tiled diffusion, for example): turn it off for this picture."
            )
        weights = list(self.unet.parameters())
        if any(type(weight) not in _PLAIN for weight in weights):
            # Forge's layers of such weights have no in_features, by which LoRAs find a layer.
            raise CLoRAError(
                "CLoRA cannot apply LoRAs to this UNet's packed weights (nf4, fp4 or gguf): choose another file of the "
                "checkpoint, and set Diffusion in Low Bits to Automatic or float8."
            )
        if settings.updates and any(weight.dtype not in _FLOATS for weight in weights):
            raise CLoRAError(
                "The latent update needs gradients, which float8 weights do not give: choose a float16 checkpoint and "
                "set Diffusion in Low Bits to Automatic, or set Update until to 0 (no updates, masks only)."
            )

    def layout(self, text: ResolvedText) -> PromptTokens:
        """The chunks of a text, as the host's tokenizer makes them. Raises: CLoRAError for a model of another kind."""
        self.check_kind()
        length, backtrack = family_of(self.unet).text_chunk, self.comma_backtrack
        return host_layout(
            self._engines[0], text, self.embeddings, chunk_length=length, comma_backtrack=backtrack
        )  # fmt: skip

    def check_kind(self) -> None:
        """Raises: CLoRAError for a model that is no SD 1.5, SD 2.x or SDXL."""
        if not self._engines or not hasattr(self.unet, "input_blocks"):
            raise other_kind(self.sd_model)

    def encode(self, texts: Sequence[str], *, negative: bool, width: int, height: int) -> list[Encoded]:
        """The texts in one batch, one context each."""
        return host_api.encode(self.sd_model, texts, negative=negative, width=width, height=height)

    def denoiser(self, loras: RowLoras, host_denoiser: Any) -> ForgeDenoiser:
        """The rows' denoiser for one sampling pass."""
        return ForgeDenoiser(self, loras)

    def attach(self, processing: Any, handler: EvaluationHandler, denoiser: ForgeDenoiser) -> Callable[[], None]:
        """Let `handler` answer the evaluations of this pass; returns a function that removes every hook."""
        return ForgeSamplerHook(self, processing, handler, denoiser).remove
