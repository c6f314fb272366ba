"""Why a LoRA file cannot be used, in one sentence: what it is, where it fails, what to do."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..errors import CLoRAError
from .adapter import AdapterSettings
from .compatibility import declared_base_model, model_by_tensors
from .file import LoraFile
from .formats import first_unknown
from .grouping import FileModule, Grouped
from .identity import other_file
from .target import LoraTargets

_CHANGE = "choose another LoRA or load another checkpoint"


def misfit(lora: LoraFile, model: LoraTargets, why: str) -> CLoRAError:
    """The LoRA belongs to another model, as far as its metadata or tensors show; else it does not fit this one."""
    unknown = {None, model.base_model, model.description}
    made = next((name for name in (declared_base_model(lora), model_by_tensors(lora)) if name not in unknown), None)
    name = f'LoRA "{lora.name}" ({lora.path.name})'
    if made is None:
        return CLoRAError(f"{name} does not fit the loaded model, {model.description} ({why}): {_CHANGE}.")
    return CLoRAError(f"{name} was made for {made}, but {model.description} is loaded ({why}): {_CHANGE}.")


def wrong_shapes(lora: LoraFile, model: LoraTargets, module: FileModule) -> CLoRAError:
    """The tensors of a module do not fit its layer."""
    return misfit(lora, model, f"the shapes at {module.key} differ")


def nothing_used(lora: LoraFile, model: LoraTargets, grouped: Grouped, settings: AdapterSettings) -> CLoRAError:
    """No tensor of the file changes a layer: another kind of file, another model, or a format that is not known."""
    other = other_file(lora)
    if other is not None:
        return CLoRAError(f'"{lora.name}" ({lora.path.name}) is {other.what}, not a LoRA: {other.advice}.')
    for key, tensors in lora.tensors.items():
        check_not_empty(lora, key, tensors)
    if grouped.modules:
        module = grouped.modules[0]
        suffix = first_unknown(module.tensors) or next(iter(module.tensors))
        return _unknown_format(lora, model, f"{module.keys[suffix]}.{suffix}", settings)
    if grouped.below:
        return _unknown_format(lora, model, grouped.below[0], settings)
    return misfit(lora, model, f"none of its {lora.tensor_count} tensors matches a layer")


def _unknown_format(lora: LoraFile, model: LoraTargets, key: str, settings: AdapterSettings) -> CLoRAError:
    method = f", {settings.kind} of PEFT" if settings.kind else ""
    return CLoRAError(
        f'LoRA "{lora.name}" ({lora.path.name}) has a format that CLoRA cannot read{method}: its layers are those of '
        f"{model.description}, but {key} belongs to no known format; use another file, or write role=off in its tag."
    )


def check_not_empty(lora: LoraFile, key: str, tensors: Mapping[str, Tensor]) -> None:
    """Raises: CLoRAError if a tensor holds no number."""
    for suffix, tensor in tensors.items():
        if tensor.numel() == 0:
            raise CLoRAError(
                f'LoRA "{lora.name}" ({lora.path.name}) holds empty tensors ({key}.{suffix} has the shape '
                f"{list(tensor.shape)}), so it was saved wrongly: save it again with gathered weights (DeepSpeed "
                "ZeRO-3 and FSDP need that), or use another file."
            )
