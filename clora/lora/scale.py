"""The scale of a LoRA's modules: `scale`, or alpha / rank, from the file's tensors or its trainer's settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from ..errors import CLoRAError
from .adapter import AdapterSettings


class Scales:
    """The scale of each module: its `scale` tensor, else alpha / rank from its alpha tensor or PEFT's settings, else 1.

    `name` is the LoRA's name, for messages.
    """

    def __init__(self, name: str, settings: AdapterSettings) -> None:
        self._name = name
        self._settings = settings

    def scale_of(self, component: str, name: str, tensors: Mapping[str, Tensor]) -> Callable[[int], float]:
        """rank -> scale, for one module.

        Raises: CLoRAError if its alpha or scale tensor is not a single number.
        """
        fixed = self._tensor(tensors, "scale", name)
        if fixed is not None:
            return lambda rank: fixed
        alpha, root = self._tensor(tensors, "alpha", name), False
        if alpha is None:
            alpha = self._configured_alpha(component, name)
            root = self._settings.get(component, "use_rslora") is True
        if alpha is None:
            return lambda rank: 1.0
        return lambda rank: alpha / (math.sqrt(rank) if root else rank)

    def configured_scale(self, component: str, name: str) -> float | None:
        """alpha / rank by PEFT's settings alone, for formats whose tensors show no rank; None without settings."""
        alpha, rank = self._configured_alpha(component, name), self._settings.number(component, "r", name)
        return None if alpha is None or not rank else alpha / rank

    def _configured_alpha(self, component: str, name: str) -> float | None:
        key = "alpha" if self._settings.kind in ("LOHA", "LOKR") else "lora_alpha"
        return self._settings.number(component, key, name)

    def _tensor(self, tensors: Mapping[str, Tensor], key: str, name: str) -> float | None:
        if key not in tensors:
            return None
        if tensors[key].numel() != 1:
            raise CLoRAError(
                f'LoRA "{self._name}": the {key} of {name} is not a single number; download the file again or use '
                "another one."
            )
        return float(tensors[key].reshape(()))
