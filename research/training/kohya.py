"""The metadata of a LoRA file, as kohya's scripts write it."""

from __future__ import annotations

import argparse

BASE_MODEL = "clora_world_v1"


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
