"""Extractors of timm and open_clip, which are optional packages."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import CLoRAError
from .pretrained import Hash, identity


def _package(name: str, pip: str, source: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise CLoRAError(
            f'"{source}" needs the package {pip}: install it with `pip install {pip}`, or use a model of transformers.'
        ) from error


def _failed(source: str, error: Exception) -> CLoRAError:
    reason = " ".join(str(error).split())[:160].rstrip(" .,:;") or type(error).__name__
    return CLoRAError(f'The model "{source}" cannot be loaded ({reason}): check its name and weights.')


class _Pretrained:
    model: Any

    def _to(self, device: str) -> None:
        self.device = device
        self.model.to(device)

    def _batch(self, transform: Any, pictures: Sequence[Image.Image]) -> Tensor:
        return torch.stack([transform(picture) for picture in pictures]).to(self.device)


class TimmDino(_Pretrained):
    """`timm:NAME` (weights from the hub) or `timm:NAME@FILE`: the pooled output, which is the CLS token."""

    def __init__(self, source: str, content: Hash) -> None:
        timm = _package("timm", "timm", source)
        name, _, weights = source.removeprefix("timm:").partition("@")
        try:
            local = {"checkpoint_path": weights} if weights else {}
            self.model = timm.create_model(name, pretrained=not weights, num_classes=0, **local).eval()
            config = timm.data.resolve_model_data_config(self.model)
            self.transform = timm.data.create_transform(**config, is_training=False)
        except Exception as error:
            raise _failed(source, error) from error
        self.identity = identity(f"timm:{name}", weights or source, content, self.model)
        self._to("cpu")

    def to(self, device: str) -> TimmDino:
        """Move the model to a device."""
        self._to(device)
        return self

    @torch.inference_mode()
    def image(self, pictures: Sequence[Image.Image]) -> Tensor:
        """See `Features`."""
        found: Tensor = self.model(self._batch(self.transform, pictures))
        return found.float().cpu()

    def text(self, texts: Sequence[str]) -> Tensor:
        """Not supported: DINO has no text encoder."""
        raise NotImplementedError


class OpenClip(_Pretrained):
    """`open_clip:NAME@WEIGHTS`; WEIGHTS is a tag of open_clip ("laion2b_s34b_b79k") or a file."""

    def __init__(self, source: str, content: Hash) -> None:
        package = _package("open_clip", "open_clip_torch", source)
        name, at, weights = source.removeprefix("open_clip:").partition("@")
        if not at:
            raise CLoRAError(
                f'"{source}" names no weights: write open_clip:NAME@WEIGHTS, where WEIGHTS is a tag or a file.'
            )
        try:
            self.model, _, self.transform = package.create_model_and_transforms(name, pretrained=weights)
            self.model.eval()
            self.tokenizer = package.get_tokenizer(name)
        except Exception as error:
            raise _failed(source, error) from error
        known = weights if Path(weights).exists() else source
        self.identity = identity(f"open_clip:{name}", known, content, self.model)
        self._to("cpu")

    def to(self, device: str) -> OpenClip:
        """Move the model to a device."""
        self._to(device)
        return self

    @torch.inference_mode()
    def image(self, pictures: Sequence[Image.Image]) -> Tensor:
        """See `Features`."""
        found: Tensor = self.model.encode_image(self._batch(self.transform, pictures))
        return found.float().cpu()

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> Tensor:
        """See `Features`."""
        found: Tensor = self.model.encode_text(self.tokenizer(list(texts)).to(self.device))
        return found.float().cpu()
