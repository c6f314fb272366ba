"""Resolve a LoRA file on a model: find its modules, make their deltas, account for every tensor."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import CLoRAError
from .compatibility import declared_base_model, describe_lora
from .file import LoraFile
from .formats import Delta, ScaleOf, ShapeError, read_deltas
from .keys import aliases, locate_module
from .scale import Scales
from .target import LoraTargets, Tables, Target

logger = logging.getLogger(__name__)
_LATENT = 4  # channels of a latent


@dataclass(frozen=True)
class AppliedLora:
    """A LoRA on a model: per component the deltas by layer. It holds no state of a run; sets can share it."""

    name: str
    te: float
    unet: float
    dyn: int | None
    deltas: Mapping[str, Mapping[Target, tuple[Delta, ...]]] = field(repr=False)
    tensor_count: int
    unhandled: tuple[str, ...] = field(repr=False)

    @property
    def layer_count(self) -> int:
        """The number of layers it changes."""
        return sum(map(len, self.deltas.values()))

    @property
    def warning(self) -> str:
        """One sentence about the tensors that are ignored, empty if there are none."""
        if not self.unhandled:
            return ""
        shown = ", ".join(self.unhandled[:3]) + (", ..." if len(self.unhandled) > 3 else "")
        return (
            f'LoRA "{self.name}": {len(self.unhandled)} of its {self.tensor_count} tensors are ignored, because '
            f"no layer of the model uses them ({shown})."
        )


def resolve_lora(lora: LoraFile, model: LoraTargets, *, te: float, unet: float, dyn: int | None = None) -> AppliedLora:
    """Resolve a LoRA on the loaded model; the model is not changed.

    model: the layers of the loaded model (`clora.models.lora.lora_targets`). te, unet: strengths of the
    text encoders and of the UNet. dyn: use only the first ranks of low-rank factors (the scale stays alpha / rank).
    Raises: CLoRAError if the LoRA was made for another base model or matches no layer of this one.
    """
    if dyn is not None and dyn < 1:
        raise CLoRAError(f'LoRA "{lora.name}": dyn={dyn} keeps no rank; write dyn=1 or more.')
    _check_base_model(lora, model)
    deltas: dict[str, dict[Target, tuple[Delta, ...]]] = {component: {} for component in model.tables}
    unhandled: list[str] = []
    scales = Scales(lora)
    for key, tensors in lora.tensors.items():
        found = _find(key, model.tables)
        made: tuple[Delta, ...] = ()
        used: set[str] = set()
        # A layer under two names (SGM and diffusers) is changed once: the first name counts.
        if found is not None and found[1] not in deltas[found[0]]:
            component, target = found
            scale_of = scales.scale_of(component, target.name, tensors)
            try:
                made, used = _deltas_on(target, tensors, unet if component == "unet" else te, scale_of, dyn)
            except ShapeError as error:
                raise _misfit(lora, model, f"the shapes at {key} differ") from error
            if made:
                deltas[component][target] = made
        unhandled.extend(f"{key}.{suffix}" for suffix in tensors if suffix not in used)
    if not any(deltas.values()):
        raise _misfit(lora, model, f"none of its {lora.tensor_count} tensors matches a layer")
    return AppliedLora(lora.name, te, unet, dyn, deltas, lora.tensor_count, tuple(unhandled))


def _deltas_on(
    target: Target, tensors: Mapping[str, Tensor], strength: float, scale_of: ScaleOf, dyn: int | None
) -> tuple[tuple[Delta, ...], set[str]]:
    """The deltas of one module and the suffixes used. A first convolution that does not fit is left out, because
    editing models differ from their base model there.

    Raises: ShapeError if the tensors do not fit any other layer.
    """
    try:
        return read_deltas(_widened(tensors, target), target.layer(), strength=strength, scale_of=scale_of, dyn=dyn)
    except ShapeError:
        if target.name != "conv_in":
            raise
        return (), set()


def _widened(tensors: Mapping[str, Tensor], target: Target) -> Mapping[str, Tensor]:
    """Tensors of a first convolution with 4 input channels, filled with zeros for an inpainting model's 5 more."""
    channels = getattr(target.module, "in_channels", 0)
    if target.name != "conv_in" or channels <= _LATENT:
        return tensors

    def widen(tensor: Tensor) -> Tensor:
        if tensor.ndim != 4 or tensor.shape[1] != _LATENT:
            return tensor
        return torch.cat([tensor, tensor.new_zeros(tensor.shape[0], channels - _LATENT, *tensor.shape[2:])], dim=1)

    return {suffix: widen(tensor) for suffix, tensor in tensors.items()}


def warn_on_unhandled(applied: AppliedLora) -> str:
    """Log and return the warning that names the ignored tensors of a LoRA; "" if there are none."""
    if applied.warning:
        logger.warning("%s", applied.warning)
    return applied.warning


def _find(key: str, tables: Tables) -> tuple[str, Target] | None:
    components, name = locate_module(key)
    for component in components:
        table = tables.get(component, {})
        for alias in aliases(name):
            if alias in table:
                return component, table[alias]
    return None


def _check_base_model(lora: LoraFile, model: LoraTargets) -> None:
    declared, loaded = declared_base_model(lora), model.base_model
    if declared and loaded and declared != loaded:
        raise _misfit(lora, model, "its metadata says so")


def _misfit(lora: LoraFile, model: LoraTargets, why: str) -> CLoRAError:
    return CLoRAError(
        f'LoRA "{lora.name}" ({lora.path.name}) was made for {describe_lora(lora)}, but '
        f"{model.description} is loaded ({why}): choose another LoRA or load another checkpoint."
    )
