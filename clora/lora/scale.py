"""The scale of a LoRA's modules: alpha / rank, from the file's alpha tensors or its adapter metadata."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..errors import CLoRAError
from .file import LoraFile


class Scales:
    """alpha / rank of each module: from its alpha tensor, else from diffusers' adapter metadata, else 1."""

    def __init__(self, lora: LoraFile) -> None:
        self._name = lora.name
        self._config = _adapter_config(lora.metadata)

    def scale_of(self, component: str, name: str, tensors: Mapping[str, Tensor]) -> Callable[[int], float]:
        """rank -> scale, for one module.

        Raises: CLoRAError if its alpha tensor is not a single number.
        """
        alpha: float | None = None
        root = False
        if "alpha" in tensors:
            if tensors["alpha"].numel() != 1:
                raise CLoRAError(
                    f'LoRA "{self._name}": the alpha of {name} is not a single number; download the file again or use '
                    "another one."
                )
            alpha = float(tensors["alpha"].reshape(()))
        else:
            alpha = self._configured_alpha(component, name)
            root = self._setting(component, "use_rslora") is True
        if alpha is None:
            return lambda rank: 1.0
        return lambda rank: alpha / (math.sqrt(rank) if root else rank)

    def _setting(self, component: str, key: str) -> Any:
        """A PEFT setting; the file of a single component writes it without the component's name."""
        return self._config.get(f"{component}.{key}", self._config.get(key))

    def _configured_alpha(self, component: str, name: str) -> float | None:
        patterns = self._setting(component, "alpha_pattern")
        if isinstance(patterns, dict):
            for pattern, alpha in patterns.items():
                # PEFT reads a pattern as a regular expression. Metadata is untrusted, so match only a name's end.
                if _is_number(alpha) and re.search(rf"(^|\.){re.escape(pattern.strip('^$'))}$", name):
                    return float(alpha)
        alpha = self._setting(component, "lora_alpha")
        return float(alpha) if _is_number(alpha) else None


def _is_number(value: Any) -> bool:
    """Whether a value of the metadata is a number that a float can be; JSON's integers have any size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e38


def _adapter_config(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """diffusers' `lora_adapter_metadata`: JSON with `unet.r`, `unet.lora_alpha`, `unet.alpha_pattern`, ...; else {}."""
    try:
        config = json.loads(metadata.get("lora_adapter_metadata", ""))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
