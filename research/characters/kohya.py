"""The metadata of a LoRA file, as kohya's scripts write it."""

from __future__ import annotations

import argparse
import json
from collections import Counter

BASE_MODEL = "clora_characters_v1"


def tag_frequency(folder: str, captions: list[str]) -> str:
    """How often each tag stands in the captions, as kohya's scripts count them: tags are parted by commas."""
    tags = Counter(tag.strip() for text in captions for tag in text.split(",") if tag.strip())
    return json.dumps({folder: dict(tags.most_common())})


def metadata(name: str, trigger: str, captions: list[str], args: argparse.Namespace) -> dict[str, str]:
    """What kohya's scripts and the model specification say about a file."""
    folder = f"10_{trigger or name}"
    return {
        "ss_base_model_version": BASE_MODEL,
        "ss_sd_model_name": f"{BASE_MODEL}.safetensors",
        "ss_v2": "False",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(args.rank),
        "ss_network_alpha": str(float(args.rank)),
        "ss_network_args": json.dumps({"conv_dim": args.rank, "conv_alpha": args.rank} if args.convolutions else {}),
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
