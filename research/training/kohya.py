"""Writes LoRA layers in the layout of kohya's scripts, which all common user interfaces read."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn

BASE_MODEL = "clora_world_v1"


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


def metadata(name: str, trigger: str, args: argparse.Namespace) -> dict[str, str]:
    """A file's metadata, as kohya's scripts and the model specification write it."""
    return {
        "ss_base_model_version": BASE_MODEL,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(args.rank),
        "ss_network_alpha": str(float(args.rank)),
        "ss_output_name": name,
        "ss_max_train_steps": str(args.steps),
        "ss_learning_rate": str(args.lr),
        "ss_seed": str(args.seed),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{BASE_MODEL}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": name,
        "modelspec.license": "MIT",
        "modelspec.trigger_phrase": trigger,
    }


def write(pipe: StableDiffusionPipeline, path: Path, name: str, trigger: str, args: argparse.Namespace) -> Path:
    """Write the pipeline's LoRA layers to `path`."""
    state = tensors(pipe.unet, "lora_unet") | tensors(pipe.text_encoder, "lora_te")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata(name, trigger, args))
    return path
