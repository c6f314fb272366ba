"""A LoRA file resolved on a model: each of its modules found, its deltas made, every tensor accounted for."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CLoRAError
from ..models.layer_names import Target, targets
from .compatibility import declared_family, describe_loaded, describe_lora, loaded_family, peft_config
from .file import LoraFile
from .formats import Delta, ShapeError, read_deltas
from .keys import places, spellings

logger = logging.getLogger(__name__)
_LATENT = 4  # channels of a latent
Tables = Mapping[str, Mapping[str, Target]]


@dataclass(frozen=True)
class AppliedLora:
    """A LoRA on a model: per component the deltas by layer. Holds no state of a run and may be shared by sets."""

    name: str
    te: float
    unet: float
    dyn: int | None
    deltas: Mapping[str, Mapping[Target, tuple[Delta, ...]]] = field(repr=False)
    tensor_count: int
    unhandled: tuple[str, ...] = field(repr=False)

    @property
    def layer_count(self) -> int:
        """How many layers it changes."""
        return sum(map(len, self.deltas.values()))

    @property
    def warning(self) -> str:
        """One sentence about the tensors that found no use, empty when all did."""
        if not self.unhandled:
            return ""
        shown = ", ".join(self.unhandled[:3]) + (", ..." if len(self.unhandled) > 3 else "")
        return f'LoRA "{self.name}": {len(self.unhandled)} of its {self.tensor_count} tensors are not used ({shown}).'


def apply_lora(
    lora: LoraFile, components: Mapping[str, nn.Module], *, te: float, unet: float, dyn: int | None = None
) -> AppliedLora:
    """Resolve a LoRA on the loaded model; nothing of the model is changed.

    components: "unet", "text_encoder", "text_encoder_2" -> module, all that the model has. te, unet: strengths of the
    text encoders and of the UNet. dyn: use only the first ranks of low-rank factors (scale stays alpha / rank).
    Raises CLoRAError when the LoRA belongs to another base model or touches nothing of this one.
    """
    if dyn is not None and dyn < 1:
        raise CLoRAError(f'LoRA "{lora.name}": dyn={dyn} leaves no rank; write a whole number from 1 up.')
    tables = {component: targets(component, root) for component, root in components.items()}
    _check_family(lora, tables)
    deltas: dict[str, dict[Target, tuple[Delta, ...]]] = {component: {} for component in components}
    unhandled: list[str] = []
    config = _Scales(lora)
    for key, tensors in lora.tensors.items():
        found = _find(key, tables)
        made: tuple[Delta, ...] = ()
        used: set[str] = set()
        # A layer named twice, in SGM and diffusers order, changes once: the first name counts.
        if found is not None and found[1] not in deltas[found[0]]:
            component, target = found
            scale = config.scale_of(component, target.name, tensors)
            try:
                made, used = read_deltas(
                    _widened(tensors, target),
                    target.layer(),
                    strength=unet if component == "unet" else te,
                    scale_of=scale,
                    dyn=dyn,
                )
            except ShapeError as error:
                if target.name != "conv_in":  # editing models differ from their family in this layer alone
                    raise _misfit(lora, tables, f"the shapes at {key} differ") from error
            if made:
                deltas[component][target] = made
        unhandled.extend(f"{key}.{suffix}" for suffix in tensors if suffix not in used)
    if not any(deltas.values()):
        raise _misfit(lora, tables, f"none of its {lora.tensor_count} tensors fits")
    return AppliedLora(lora.name, te, unet, dyn, deltas, lora.tensor_count, tuple(unhandled))


def _widened(tensors: Mapping[str, Tensor], target: Target) -> Mapping[str, Tensor]:
    """Tensors for a first convolution with 4 input channels, with zeros for an inpainting model's 5 further ones."""
    channels = getattr(target.module, "in_channels", 0)
    if target.name != "conv_in" or channels <= _LATENT:
        return tensors

    def widen(tensor: Tensor) -> Tensor:
        if tensor.ndim != 4 or tensor.shape[1] != _LATENT:
            return tensor
        return torch.cat([tensor, tensor.new_zeros(tensor.shape[0], channels - _LATENT, *tensor.shape[2:])], dim=1)

    return {suffix: widen(tensor) for suffix, tensor in tensors.items()}


def warn_on_unhandled(applied: AppliedLora) -> str:
    """Log and return the one warning that names the tensors of a LoRA without use; "" when there are none."""
    if applied.warning:
        logger.warning("%s", applied.warning)
    return applied.warning


def _find(key: str, tables: Tables) -> tuple[str, Target] | None:
    components, name = places(key)
    for component in components:
        table = tables.get(component, {})
        for spelling in spellings(name):
            if spelling in table:
                return component, table[spelling]
    return None


def _check_family(lora: LoraFile, tables: Tables) -> None:
    declared, loaded = declared_family(lora), loaded_family(tables)
    if declared and loaded and declared != loaded:
        raise _misfit(lora, tables, "its metadata says so")


def _misfit(lora: LoraFile, tables: Tables, why: str) -> CLoRAError:
    return CLoRAError(
        f'LoRA "{lora.name}" ({lora.path.name}) was made for {describe_lora(lora)}, but '
        f"{describe_loaded(tables)} is loaded ({why}): choose a LoRA or a checkpoint that fits."
    )


class _Scales:
    """alpha / rank of each module: from its alpha tensor, else from diffusers' adapter metadata, else 1."""

    def __init__(self, lora: LoraFile) -> None:
        self._name = lora.name
        self._config = peft_config(lora.metadata)

    def scale_of(self, component: str, name: str, tensors: Mapping[str, Tensor]) -> Callable[[int], float]:
        """rank -> scale for one module."""
        alpha: float | None = None
        root = False
        if "alpha" in tensors:
            if tensors["alpha"].numel() != 1:
                raise CLoRAError(f'LoRA "{self._name}": the alpha of {name} is not a single number; use another file.')
            alpha = float(tensors["alpha"].reshape(()))
        else:
            alpha = self._peft_alpha(component, name)
            root = self._setting(component, "use_rslora") is True
        if alpha is None:
            return lambda rank: 1.0
        return lambda rank: alpha / (math.sqrt(rank) if root else rank)

    def _setting(self, component: str, key: str) -> Any:
        """A PEFT setting; a file of a single component has it without the component's name."""
        return self._config.get(f"{component}.{key}", self._config.get(key))

    def _peft_alpha(self, component: str, name: str) -> float | None:
        patterns = self._setting(component, "alpha_pattern")
        if isinstance(patterns, dict):
            for pattern, alpha in patterns.items():
                # PEFT reads a pattern as a regular expression; metadata is untrusted, so only as a name's end here.
                if isinstance(alpha, int | float) and re.search(rf"(^|\.){re.escape(pattern.strip('^$'))}$", name):
                    return float(alpha)
        alpha = self._setting(component, "lora_alpha")
        return float(alpha) if isinstance(alpha, int | float) and not isinstance(alpha, bool) else None
