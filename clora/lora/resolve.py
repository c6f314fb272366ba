"""Resolve a LoRA file on a model: find its modules, make their deltas, account for every tensor."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import CLoRAError
from .adapter import AdapterSettings
from .block_weights import block_weight
from .bundled import BundledEmbedding, bundled_embeddings
from .compatibility import declared_base_model, model_by_tensors, text_width
from .file import LoraFile
from .formats import Delta, Reading, ShapeError, read_deltas
from .grouping import FileModule, group
from .identity import other_model
from .notes import notes_on
from .refusal import check_not_empty, misfit, nothing_used, wrong_shapes
from .scale import Scales
from .target import LoraTargets, Target

logger = logging.getLogger(__name__)
_LATENT = 4  # channels of a latent


@dataclass(frozen=True)
class AppliedLora:
    """A LoRA on a model: per component the deltas by layer, and the textual inversions that its file carries.

    It holds no state of a run; sets can share it.
    """

    name: str
    te: float
    unet: float
    dyn: int | None
    deltas: Mapping[str, Mapping[Target, tuple[Delta, ...]]] = field(repr=False)
    tensor_count: int
    unhandled: tuple[str, ...] = field(repr=False)
    notes: tuple[str, ...] = ()
    embeddings: tuple[BundledEmbedding, ...] = field(default=(), repr=False)

    @property
    def layer_count(self) -> int:
        """The number of layers it changes."""
        return sum(map(len, self.deltas.values()))

    @property
    def warning(self) -> str:
        """What the user should know: the tensors that are ignored and `notes`, a sentence for each; empty if none."""
        parts = list(self.notes)
        if self.unhandled:
            shown = ", ".join(self.unhandled[:3]) + (", ..." if len(self.unhandled) > 3 else "")
            parts.append(
                f"{len(self.unhandled)} of its {self.tensor_count} tensors are ignored, because "
                f"no layer of the model and no known format uses them ({shown})"
            )
        return f'LoRA "{self.name}": {"; ".join(parts)}.' if parts else ""


def resolve_lora(
    lora: LoraFile, model: LoraTargets, *, te: float, unet: float, dyn: int | None = None,
    blocks: tuple[float, ...] = (),
) -> AppliedLora:  # fmt: skip
    """Resolve a LoRA on the loaded model; the model is not changed.

    model: the layers of the loaded model (`clora.models.lora.lora_targets`). te, unet: strengths of the
    text encoders and of the UNet. dyn: use only the first ranks of low-rank factors (the scale stays alpha / rank).
    blocks: weights by block of the UNet, which the strengths are multiplied by.
    Raises: CLoRAError if the LoRA was made for another base model or matches no layer of this one, if it is no LoRA, or
    if it holds empty tensors.
    """
    if dyn is not None and dyn < 1:
        raise CLoRAError(f'LoRA "{lora.name}": dyn={dyn} keeps no rank; write dyn=1 or more.')
    settings = AdapterSettings(lora)
    scales = Scales(lora.name, settings)
    grouped = group(lora, model.tables, settings)
    deltas: dict[str, dict[Target, tuple[Delta, ...]]] = {component: {} for component in model.tables}
    unhandled = list(grouped.unplaced)
    for module in grouped.modules:
        check_not_empty(lora, module.key, module.tensors)
        strength = unet if module.component == "unet" else te
        strength *= block_weight(blocks, module.component, module.target.block)
        how = _reading(module, settings, scales, strength, dyn)
        try:
            made, used = _deltas_on(module.target, module.tensors, how)
        except ShapeError as error:
            raise wrong_shapes(lora, model, module) from error
        if made:
            deltas[module.component][module.target] = made
        unhandled.extend(module.full_keys(used))
    if not any(deltas.values()):
        raise nothing_used(lora, model, grouped, settings)
    _check_base_model(lora, model, complete=not grouped.foreign, has_unet=bool(deltas.get("unet")))
    notes = notes_on(lora, model, settings, grouped, tuple(unhandled))
    count, embeddings = lora.tensor_count, bundled_embeddings(lora)
    return AppliedLora(lora.name, te, unet, dyn, deltas, count, tuple(unhandled), notes, embeddings)


def _reading(
    module: FileModule, settings: AdapterSettings, scales: Scales, strength: float, dyn: int | None
) -> Reading:  # fmt: skip
    """How the tensors of one module are read."""
    component, name = module.component, module.target.name
    options = settings.options(component, name)
    scale = scales.configured_scale(component, name)
    if scale is not None:
        options["configured_scale"] = scale
    return Reading(strength, scales.scale_of(component, name, module.tensors), dyn, options)


def _check_base_model(lora: LoraFile, model: LoraTargets, *, complete: bool, has_unet: bool) -> None:
    """A LoRA of another model may fit in part: its text encoder, or the layers that two models share.

    complete: every module of the file has a layer. Then the file is used, whatever its metadata says.
    Raises: CLoRAError if the metadata or the tensors show another model.
    """
    if complete:
        return
    if not has_unet and other_model(lora):
        raise misfit(lora, model, "only its text encoder fits")
    declared, loaded = declared_base_model(lora), model.base_model
    width = text_width(lora)
    fits_by_width = width is not None and model_by_tensors(lora) in (loaded, model.description)
    if declared and loaded and declared != loaded and not fits_by_width:
        raise misfit(lora, model, "its metadata says so")


def _deltas_on(
    target: Target, tensors: Mapping[str, Tensor], how: Reading
) -> tuple[tuple[Delta, ...], set[str]]:  # fmt: skip
    """The deltas of one module and the suffixes used. A first convolution that does not fit is left out, because
    editing models differ from their base model there.

    Raises: ShapeError if the tensors do not fit any other layer.
    """
    try:
        return read_deltas(_widened(tensors, target), target.layer(), how)
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
