"""The Lora extension: its list of files, and merging of the LoRAs that the host's own parser finds in a prompt."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from modules import shared
from safetensors.torch import load_file
from torch import nn


class NetworkOnDisk:
    """One file of the list."""

    def __init__(self, path: Path) -> None:
        self.name, self.filename, self.alias = path.stem, str(path), path.stem
        self.metadata: dict[str, str] = {}
        self.hash: str | None = None
        self.shorthash: str | None = None

    def read_hash(self) -> None:
        """The hash is made when it is first asked for."""
        if not self.hash:
            self.hash = hashlib.sha256(Path(self.filename).read_bytes()).hexdigest()
            self.shorthash = self.hash[:12]


folder: Path | None = None
available_networks: dict[str, NetworkOnDisk] = {}
available_network_aliases: dict[str, NetworkOnDisk] = {}
_weights_before: list[tuple[nn.Module, torch.Tensor]] = []


def list_available_networks() -> None:
    """Look into the folder again."""
    available_networks.clear()
    available_network_aliases.clear()
    for path in sorted(folder.glob("*.safetensors")) if folder else ():
        available_networks[path.stem] = available_network_aliases[path.stem] = NetworkOnDisk(path)


def take_tags(prompts: list[str]) -> tuple[list[str], list[tuple[str, float]]]:
    """The prompts without `<...>` tags, and the (name, weight) pairs of the first one."""
    found = [inside.split(":") for inside in re.findall(r"<lora:([^>]+)>", prompts[0])] if prompts else []
    return [re.sub(r"<\w+:[^>]+>", "", text) for text in prompts], [_name_and_weight(items) for items in found]


def _name_and_weight(items: list[str]) -> tuple[str, float]:
    """What a tag's items say; the third without one "=" is the UNet's strength, a number, as in AUTOMATIC1111."""
    name, *weights = (item for item in items if len(item.split("=", 2)) != 2)
    numbers = [float(weight) for weight in weights[:2]]
    return name, numbers[0] if numbers else 1.0


def activate(p: Any, wanted: list[tuple[str, float]]) -> None:
    """Merge these LoRAs, and nothing else, into the weights of the loaded model."""
    while _weights_before:
        layer, weight = _weights_before.pop()
        with torch.inference_mode(layer.weight.is_inference()), torch.no_grad():  # of another host's job, perhaps
            layer.weight.copy_(weight)
    known = {name: (available_networks[name], weight) for name, weight in wanted if name in available_networks}
    layers = _layers() if known else {}
    for network, strength in known.values():
        for key, tensors in _modules_of(network.filename).items():
            layer = layers[key]
            _weights_before.append((layer, layer.weight.detach().clone()))
            rank = tensors["lora_down.weight"].shape[0]
            delta = tensors["lora_up.weight"] @ tensors["lora_down.weight"] * (float(tensors["alpha"]) / rank)
            layer.weight.add_((delta * strength).to(layer.weight))
    if known:
        for network, _ in known.values():
            network.read_hash()
        hashes = ", ".join(f"{name}: {network.shorthash}" for name, (network, _) in known.items())
        p.extra_generation_params["Lora hashes"] = hashes


def _modules_of(filename: str) -> dict[str, dict[str, torch.Tensor]]:
    grouped: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(filename).items():
        name, _, rest = key.partition(".")
        grouped.setdefault(name, {})[rest] = tensor.double()
    return grouped


def _layers() -> dict[str, Any]:
    roots = {"lora_unet": shared.sd_model.unet_module, "lora_te": shared.sd_model.text_module}
    return {
        f"{prefix}_{name.replace('.', '_')}": module
        for prefix, root in roots.items()
        for name, module in root.named_modules()
        if isinstance(module, nn.Linear)
    }
