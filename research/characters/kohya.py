"""Writes LoRA layers in the layout of kohya's scripts, which every user interface reads."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn

BASE_MODEL = "clora_characters_v1"


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


def tag_frequency(folder: str, captions: list[str]) -> str:
    """How often each tag stands in the captions, as kohya's scripts count them: tags are parted by commas."""
    tags = Counter(tag.strip() for text in captions for tag in text.split(",") if tag.strip())
    return json.dumps({folder: dict(tags.most_common())})


def metadata(name: str, trigger: str, captions: list[str], args: argparse.Namespace) -> dict[str, str]:
    """What kohya's scripts and the model specification say about a file."""
    folder = f"10_{trigger}"
    return {
        "ss_base_model_version": BASE_MODEL,
        "ss_sd_model_name": f"{BASE_MODEL}.safetensors",
        "ss_v2": "False",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(args.rank),
        "ss_network_alpha": str(float(args.rank)),
        "ss_output_name": name,
        "ss_resolution": "(256, 256)",
        "ss_num_train_images": str(args.pictures),
        "ss_dataset_dirs": json.dumps({folder: {"n_repeats": 10, "img_count": args.pictures}}),
        "ss_tag_frequency": tag_frequency(folder, captions),
        "ss_max_train_steps": str(args.steps),
        "ss_steps": str(args.steps),
        "ss_learning_rate": str(args.lr),
        "ss_optimizer": "Muon",
        "ss_mixed_precision": "bf16",
        "ss_seed": str(args.seed),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{BASE_MODEL}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": name,
        "modelspec.resolution": "256x256",
        "modelspec.prediction_type": "v",
        "modelspec.license": "MIT",
        "modelspec.trigger_phrase": trigger,
    }


def write(pipe: StableDiffusionPipeline, path: Path, about: dict[str, str]) -> Path:
    """Write the pipeline's LoRA layers to `path`."""
    state = tensors(pipe.unet, "lora_unet") | tensors(pipe.text_encoder, "lora_te")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, about)
    return path
