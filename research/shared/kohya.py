"""Writes and reads LoRA layers in the layout of kohya's scripts, which all common user interfaces read."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def tensors(model: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The LoRA layers of a model under kohya's names, in float16."""
    found: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            key = f"{prefix}_{name.replace('.', '_')}"
            found[f"{key}.lora_down.weight"] = layer.lora_A["default"].weight
            found[f"{key}.lora_up.weight"] = layer.lora_B["default"].weight
            found[f"{key}.alpha"] = torch.tensor(float(layer.lora_alpha["default"]))
    return {key: value.detach().cpu().half().contiguous() for key, value in found.items()}


@torch.no_grad()
def read(pipe: StableDiffusionPipeline, path: Path) -> None:
    """Put a file's weights into the pipeline's LoRA layers, which have the file's rank and layers.

    Raises: KeyError for a layer that the file lacks.
    """
    kept = load_file(path)
    for model, prefix in ((pipe.unet, "lora_unet"), (pipe.text_encoder, "lora_te")):
        for name, layer in model.named_modules():
            if isinstance(layer, LoraLayer):
                key = f"{prefix}_{name.replace('.', '_')}"
                layer.lora_A["default"].weight.copy_(kept[f"{key}.lora_down.weight"])
                layer.lora_B["default"].weight.copy_(kept[f"{key}.lora_up.weight"])


def write(pipe: StableDiffusionPipeline, path: Path, about: dict[str, str]) -> Path:
    """Write the pipeline's LoRA layers to `path`."""
    state = tensors(pipe.unet, "lora_unet") | tensors(pipe.text_encoder, "lora_te")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, about)
    return path
