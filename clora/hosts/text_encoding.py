"""The text encoders of a WebUI's loaded model, for `clora.conditioning`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn

from ..conditioning.encoding import Encoded, TextGroup, equal_length
from ..conditioning.lora_sets import LoraSets
from ..lora.bundled import BundledEmbedding
from ..lora.rows import RowLoras
from ..models.memory import ONE_TEXT, RowLimit
from ..prompt import PromptTokens, ResolvedText
from .embeddings import registered
from .protocol import WebUIModel

_APART = "Memory ran out: scheduled texts are encoded one by one, which may change their emphasis slightly."


class WebUITextEncoder:
    """`clora.conditioning.encoding.TextEncoder` for a picture of `size` (width, height) in pixels, which SDXL is told.

    One call of the host encodes the texts of one group, as the host does for one prompt: emphasis "Original" corrects
    by the mean of all texts encoded together, and SDXL's hosts zero a negative prompt if all texts of the call are
    empty.
    """

    def __init__(
        self, model: WebUIModel, size: tuple[int, int], warn: Callable[[str], None] = lambda text: None
    ) -> None:
        """`warn` gets a warning if memory runs out."""
        self._model, self._size = model, size
        self._limit = RowLimit(0, lambda _: warn(_APART), ONE_TEXT)

    @property
    def components(self) -> Mapping[str, nn.Module]:
        """The modules that LoRAs may change, by component name."""
        return {"unet": self._model.unet, **self._model.text_encoders}

    def layout(self, text: ResolvedText) -> PromptTokens:
        """The chunks of a text, as the host's tokenizer makes them."""
        return self._model.layout(text)

    @contextmanager
    def with_embeddings(self, embeddings: Sequence[BundledEmbedding]) -> Iterator[tuple[str, ...]]:
        """The host's databases know the textual inversions inside this block; a name that they have stays theirs."""
        unused: list[str] = []
        with ExitStack() as stack:
            for database in self._model.embedding_databases:
                unused += stack.enter_context(registered(embeddings, database))
            yield tuple(dict.fromkeys(unused))

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
        """One call of the host, or one for each text where memory runs out, with one LoRA set on.

        Raises: CLoRAError if memory runs out with a single text.
        """

        def attempt(size: int) -> list[Encoded]:
            if size == 0 or len(texts) == 1:
                return self._call(texts, loras, lora_set, negative)
            # A call zeroes negative prompts if all of its texts are empty: all of the group's count.
            alone = [self._call([text], loras, lora_set, negative and not any(texts)) for text in texts]
            # In one call the host fills up the shorter texts.
            filled = equal_length(alone, lambda: self._call([""], loras, lora_set, False)[0])
            return [one for (one,) in filled]

        return self._limit.run(len(texts), attempt)

    def _call(self, texts: Sequence[str], loras: Sequence[RowLoras], lora_set: int, negative: bool) -> list[Encoded]:
        width, height = self._size
        with ExitStack() as stack:
            for one in loras:
                stack.enter_context(one.installed())
                stack.enter_context(one.rows([lora_set] * len(texts)))
            return self._model.encode(texts, negative=negative, width=width, height=height)
