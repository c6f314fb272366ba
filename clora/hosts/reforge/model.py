"""The loaded model of reForge and Forge Classic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modules import devices, sd_hijack
from torch import nn

from .. import host_api
from ..embeddings import Database
from ..forge import ForgeModel
from ..text_engines import text_engines


class ReForgeModel(ForgeModel):
    """`clora.hosts.protocol.WebUIModel` for the SD 1.5, SD 2.x and SDXL models of hosts grown from the first Forge.

    The UNet is sampled as in Forge; prompts are read by A1111's text engines.
    """

    @staticmethod
    def engines_of(sd_model: Any) -> list[Any]:
        """A1111's engines."""
        return text_engines(sd_model)

    @property
    def embeddings(self) -> Any:
        """The textual inversions that the host has loaded."""
        return sd_hijack.model_hijack.embedding_db

    @property
    def embedding_databases(self) -> Sequence[Database]:
        """One for all encoders, with vectors where the host computes."""
        engine = self._engines[0]
        return [Database(self.embeddings, lambda word: list(engine.tokenize([word])[0]), devices.device)]

    @property
    def comma_backtrack(self) -> int:
        """The WebUI's option "Prompt word wrap length limit"."""
        return int(host_api.option("comma_padding_backtrack", 20))

    @property
    def text_encoders(self) -> Mapping[str, nn.Module]:
        """The text models inside the host's wrappers."""
        engines = zip(("text_encoder", "text_encoder_2"), self._engines, strict=False)
        return {name: engine.wrapped for name, engine in engines}

    @property
    def pads_prompts(self) -> bool:
        """The WebUI's option "Pad prompt/negative prompt"; without it the shorter one is repeated."""
        return bool(host_api.option("pad_cond_uncond", False))

    @property
    def noise_levels(self) -> Any:
        """Under this family's name."""
        return self.patcher.model.model_sampling
