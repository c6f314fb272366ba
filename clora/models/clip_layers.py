"""The layers of CLIP text encoders under the names of Hugging Face's CLIPTextModel and of OpenCLIP's towers."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..lora.formats import kind_of
from ..lora.keys import flat
from ..lora.target import Pairs, Target, named_layers

_OPEN_CLIP: Pairs = [
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
]
_FUSED = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "in": "self_attn.in_proj",
}


def clip_targets(root: nn.Module) -> dict[str, Target]:
    """Hugging Face CLIP text models (`encoder.layers`) or OpenCLIP towers (`transformer.resblocks`)."""
    tower = next((m for _, m in root.named_modules() if hasattr(getattr(m, "encoder", None), "layers")), None)
    if tower is not None:
        return _hugging_face_targets(root, tower)
    for name, module in root.named_modules():
        if hasattr(getattr(module, "transformer", None), "resblocks") and "visual" not in name.split("."):
            return _open_clip_targets(module)
    return {}


def _hugging_face_targets(root: nn.Module, tower: nn.Module) -> dict[str, Target]:
    table: dict[str, Target] = {}
    for name, module in named_layers(tower):
        target = Target(module, f"text_model.{name}")
        table[flat(target.name)] = table[flat(name)] = target
    for module in root.modules():
        projection = getattr(module, "text_projection", None)
        if isinstance(projection, nn.Module) and kind_of(projection):
            table["text_projection"] = Target(projection, "text_projection")
    return table


def _open_clip_targets(model: Any) -> dict[str, Target]:
    table: dict[str, Target] = {}

    def add(target: Target, *names: str) -> None:
        for name in (target.name, *names):
            table.setdefault(flat(name), target)

    for number, block in enumerate(model.transformer.resblocks):
        ours, theirs = f"text_model.encoder.layers.{number}", f"transformer.resblocks.{number}"
        # nn.MultiheadAttention tells the order inside the tower: tokens first unless batch_first.
        axis = 0 if block.attn.batch_first else 1
        for old, new in _OPEN_CLIP:
            module = block.get_submodule(old)
            add(Target(module, f"{ours}.{new}", row_axis=axis), f"{theirs}.{old}", f"model.{theirs}.{old}")
        for part, new in _FUSED.items():
            old = f"attn.{'in_proj' if part == 'in' else new.removeprefix('self_attn.')}"
            add(Target(block.attn, f"{ours}.{new}", part, axis), f"{theirs}.{old}", f"model.{theirs}.{old}")
    if hasattr(model, "ln_final"):
        add(Target(model.ln_final, "text_model.final_layer_norm"), "ln_final", "model.ln_final")
    return table
