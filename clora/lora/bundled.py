"""Textual inversions inside a LoRA file (`bundle_emb.NAME...`, as OneTrainer saves them): a word and its vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from .file import LoraFile
from .keys import bundled_embedding, split_key

_VECTORS = {"clip_l": "text_encoder", "*": "text_encoder", "emb_params": "text_encoder", "clip_g": "text_encoder_2"}
"""Ending of a key -> the text encoder whose token vectors it holds; "*" is the end of `string_to_param.*`."""


@dataclass(frozen=True, eq=False)
class BundledEmbedding:
    """The word `name` stands for `vectors[component]` (n, D) instead of its tokens' own vectors."""

    name: str
    vectors: Mapping[str, Tensor] = field(repr=False)

    @property
    def count(self) -> int:
        """n, the token positions that the word takes."""
        return len(next(iter(self.vectors.values())))


def bundled_embeddings(lora: LoraFile) -> tuple[BundledEmbedding, ...]:
    """The embeddings of a file that CLoRA can apply: those with as many vectors for each encoder."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensors in lora.tensors.items():
        name = bundled_embedding(key)
        for suffix, tensor in tensors.items() if name is not None else ():
            component = _VECTORS.get(suffix)
            if name is not None and component is not None and tensor.ndim in (1, 2) and tensor.numel():
                found.setdefault(name, {})[component] = tensor.reshape(-1, tensor.shape[-1])
    made = (BundledEmbedding(name, vectors) for name, vectors in found.items())
    return tuple(one for one in made if {len(vectors) for vectors in one.vectors.values()} == {one.count})


def bundled_names(keys: Iterable[str]) -> tuple[str, ...]:
    """The words of the embeddings among the tensors' keys."""
    names = (bundled_embedding(split_key(key)[0]) for key in keys)
    return tuple(dict.fromkeys(name for name in names if name is not None))
