"""The text encoders of a WebUI's loaded model, for `clora.conditioning`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from torch import nn

from ..conditioning.encoding import Encoded, TextGroup, equal_length
from ..conditioning.lora_sets import LoraSets
from ..lora.rows import RowLoras
from ..prompt import PromptTokens, ResolvedText
from .protocol import WebUIModel


class WebUITextEncoder:
    """`clora.conditioning.encoding.TextEncoder` for a picture of `size` (width, height) in pixels, which SDXL is told.

    One call of the host encodes the texts of one group, as the host does for one prompt: emphasis "Original" corrects
    by the mean of all texts encoded together, and SDXL's hosts zero a negative prompt if all texts of the call are
    empty.
    """

    def __init__(self, model: WebUIModel, size: tuple[int, int]) -> None:
        self._model, self._size = model, size

    @property
    def components(self) -> Mapping[str, nn.Module]:
        """The modules that LoRAs may change, by component name."""
        return {"unet": self._model.unet, **self._model.text_encoders}

    def layout(self, text: ResolvedText) -> PromptTokens:
        """The chunks of a text, as the host's tokenizer makes them."""
        return self._model.layout(text)

    def encode_groups(self, groups: Sequence[TextGroup], sets: LoraSets) -> list[list[Encoded]]:
        """The contexts of every group's texts, brought to one length as the host is set to."""
        # The last set, without any LoRA, is for the empty prompt that pads.
        loras = [RowLoras(name, root, (*sets, ())) for name, root in self._model.text_encoders.items()]
        encoded = [
            self._encode([str(text) for text in group.texts], loras, group.lora_set, group.negative)
            for group in groups
        ]  # fmt: skip

        def empty() -> Encoded:
            return self._encode([""], loras, len(sets), False)[0]

        return equal_length(encoded, empty if self._model.pads_prompts else None)

    def _encode(self, texts: Sequence[str], loras: Sequence[RowLoras], lora_set: int, negative: bool) -> list[Encoded]:
        """One call of the host, with one LoRA set on."""
        width, height = self._size
        with ExitStack() as stack:
            for one in loras:
                stack.enter_context(one.installed())
                stack.enter_context(one.rows([lora_set] * len(texts)))
            return self._model.encode(texts, negative=negative, width=width, height=height)
