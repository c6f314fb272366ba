"""Feature vectors of pictures and texts, by models of `transformers`, `timm` or `open_clip`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from ..errors import CLoRAError
from .pretrained import Hash, identity, load


class Features(Protocol):
    """An extractor. `identity` identifies its weights, so that stored vectors of other weights are not reused."""

    identity: str

    def to(self, device: str) -> Features:
        """Move the model to a device."""

    def image(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures of any size -> (B, D) float32 on the CPU."""

    def text(self, texts: Sequence[str]) -> Tensor:
        """Texts, truncated to the model's length -> (B, D) float32 on the CPU, D as for pictures."""


class TransformersDino:
    """The CLS token after the last layer of a vision transformer (DINO, DINOv2, ViT)."""

    def __init__(self, source: str, content: Hash) -> None:
        from transformers import AutoImageProcessor, AutoModel

        self.model, self.processor = load(source, "DINO", AutoModel, AutoImageProcessor)
        self.identity = identity("dino", source, content, self.model)
        if not hasattr(self.model.config, "patch_size"):
            raise CLoRAError(f'The DINO model "{source}" is not a vision transformer: use a DINO ViT.')

    def to(self, device: str) -> TransformersDino:
        """Move the model to a device."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def image(self, pictures: Sequence[Image.Image]) -> Tensor:
        """See `Features`."""
        given = self.processor(images=list(pictures), return_tensors="pt").to(self.model.device)
        hidden: Tensor = self.model(**given).last_hidden_state
        return hidden[:, 0].float().cpu()

    def text(self, texts: Sequence[str]) -> Tensor:
        """Not supported: DINO has no text encoder."""
        raise NotImplementedError


class TransformersClip:
    """The projected embeddings of a CLIP model."""

    def __init__(self, source: str, content: Hash) -> None:
        from transformers import CLIPModel, CLIPProcessor

        self.model, self.processor = load(source, "CLIP", CLIPModel, CLIPProcessor)
        self.identity = identity("clip", source, content, self.model)

    def to(self, device: str) -> TransformersClip:
        """Move the model to a device."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def image(self, pictures: Sequence[Image.Image]) -> Tensor:
        """See `Features`."""
        given = self.processor(images=list(pictures), return_tensors="pt").to(self.model.device)
        return embedding(self.model.get_image_features(**given))

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> Tensor:
        """See `Features`."""
        length = self.model.config.text_config.max_position_embeddings
        given = self.processor(text=list(texts), return_tensors="pt", padding=True, truncation=True, max_length=length)
        return embedding(self.model.get_text_features(**given.to(self.model.device)))


def embedding(found: Any) -> Tensor:
    """CLIP's embedding, (B, D) float32 on the CPU; newer versions of transformers wrap the tensor in an object."""
    tensor: Tensor = getattr(found, "pooler_output", found)
    return tensor.float().cpu()


def load_dino(source: str, content: Hash) -> Features:
    """The extractor for DINO: a folder or hub id of transformers, or `timm:NAME[@WEIGHTS]`. Raises: CLoRAError."""
    if source.startswith("timm:"):
        from .other_features import TimmDino

        return TimmDino(source, content)
    return TransformersDino(source, content)


def load_clip(source: str, content: Hash) -> Features:
    """The extractor for CLIP: a folder or hub id of transformers, or `open_clip:NAME@WEIGHTS`. Raises: CLoRAError."""
    if source.startswith("open_clip:"):
        from .other_features import OpenClip

        return OpenClip(source, content)
    return TransformersClip(source, content)
