"""The layers of the host under every name a LoRA file may use for them, found by the structure of the model.

Each component gives a table: flat name -> Target. UNets are listed under diffusers names (`down_blocks_0_...`) and
CompVis/SGM names (`input_blocks_1_1_...`), whichever the host itself uses; text encoders under the names of
Hugging Face's CLIPTextModel and, for OpenCLIP towers, their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..lora.formats import Layer, kind_of
from ..lora.keys import flat

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Target:
    """A layer a LoRA can change. `part` names a slice of a fused nn.MultiheadAttention ("in", "q", "k", "v", "out").

    `row_axis` is the axis of the rows in the layer's input: 0, or 1 inside OpenCLIP towers that put tokens first.
    """

    module: nn.Module
    name: str
    part: str = ""
    row_axis: int = 0

    def layer(self) -> Layer:
        """The layer's shape and operation."""
        if not self.part:
            kind = kind_of(self.module)
            assert kind is not None, "the tables hold layers only"
            return Layer(self.module, kind)
        if self.part == "out":
            return Layer(self.module.out_proj, "linear")  # type: ignore[arg-type]
        width = int(self.module.embed_dim)  # type: ignore[arg-type]
        third = {"q": slice(0, width), "k": slice(width, 2 * width), "v": slice(2 * width, 3 * width)}.get(self.part)
        return Layer(self.module, "linear", weight="in_proj_weight", bias="in_proj_bias", rows=third)


def targets(component: str, root: nn.Module) -> dict[str, Target]:
    """Every layer of a component ("unet", "text_encoder" or "text_encoder_2") by flat name, all known names."""
    return _unet_targets(root) if component == "unet" else _text_targets(root)


# ---------------------------------------------------------------------------------------------------- UNets


@dataclass(frozen=True)
class Level:
    """One resolution of a UNet: residual blocks, attention blocks (0 or one per residual block), resampling or not."""

    resnets: int
    attentions: int
    resample: bool


_RESNET: Pairs = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
]
_ENDS: Pairs = [
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
]


def block_names(down: list[Level], middle: Level, up: list[Level]) -> Pairs:
    """(diffusers, CompVis) names of all blocks of a UNet of this layout; inside attention blocks both agree."""
    pairs = list(_ENDS)

    def resnet(ours: str, theirs: str) -> None:
        pairs.extend((f"{ours}.{a}", f"{theirs}.{b}") for a, b in _RESNET)

    place = 1  # input_blocks.0 is conv_in
    for level, block in enumerate(down):
        for i in range(block.resnets):
            resnet(f"down_blocks.{level}.resnets.{i}", f"input_blocks.{place}.0")
            if i < block.attentions:
                pairs.append((f"down_blocks.{level}.attentions.{i}", f"input_blocks.{place}.1"))
            place += 1
        if block.resample:
            pairs.append((f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{place}.0.op"))
            place += 1
    for i in range(middle.resnets):
        resnet(f"mid_block.resnets.{i}", f"middle_block.{i + min(i, middle.attentions)}")
    for i in range(middle.attentions):
        pairs.append((f"mid_block.attentions.{i}", f"middle_block.{2 * i + 1}"))
    place = 0
    for level, block in enumerate(up):
        for i in range(block.resnets):
            resnet(f"up_blocks.{level}.resnets.{i}", f"output_blocks.{place}.0")
            if i < block.attentions:
                pairs.append((f"up_blocks.{level}.attentions.{i}", f"output_blocks.{place}.1"))
            place += 1
        if block.resample:
            last = 2 if block.attentions else 1
            pairs.append((f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{place - 1}.{last}.conv"))
    return pairs


def _diffusers_level(block: Any) -> Level:
    resampled = bool(getattr(block, "downsamplers", None) or getattr(block, "upsamplers", None))
    return Level(len(block.resnets), len(getattr(block, "attentions", None) or ()), resampled)


def _compvis_levels(blocks: Any) -> list[Level]:
    """Levels of `input_blocks` or `output_blocks`; a Downsample (`op`) or Upsample (`conv`) ends a level."""
    levels: list[Level] = []
    resnets = attentions = 0
    for block in blocks:
        resample = False
        for child in block:
            resnets += hasattr(child, "in_layers")
            attentions += hasattr(child, "transformer_blocks")
            resample |= hasattr(child, "op") or (hasattr(child, "conv") and not hasattr(child, "in_layers"))
        if resample:
            levels.append(Level(resnets, attentions, True))
            resnets = attentions = 0
    if resnets:
        levels.append(Level(resnets, attentions, False))
    return levels


def _layout_names(unet: Any) -> Pairs:
    if hasattr(unet, "input_blocks"):
        middle = list(unet.middle_block)
        resnets = sum(hasattr(child, "in_layers") for child in middle)
        return block_names(
            _compvis_levels(unet.input_blocks),
            Level(resnets, len(middle) - resnets, False),
            _compvis_levels(unet.output_blocks),
        )
    down, up = map(_diffusers_level, unet.down_blocks), map(_diffusers_level, unet.up_blocks)
    middle_level = _diffusers_level(unet.mid_block) if unet.mid_block is not None else Level(0, 0, False)
    return block_names(list(down), middle_level, list(up))


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """A name with its longest known prefix replaced."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        other = prefixes.get(".".join(parts[:count]))
        if other is not None:
            return ".".join((other, *parts[count:]))
    return name


def _unet_targets(root: nn.Module) -> dict[str, Target]:
    unet = _find(root, ("input_blocks", "output_blocks")) or _find(root, ("down_blocks", "up_blocks"))
    if unet is None:
        return {}
    pairs = _layout_names(unet)
    compvis = hasattr(unet, "input_blocks")
    to_diffusers = {theirs: ours for ours, theirs in pairs} if compvis else {}
    to_compvis = {} if compvis else dict(pairs)
    table: dict[str, Target] = {}
    for name, module in _layers(unet):
        ours = _renamed(name, to_diffusers)
        target = Target(module, ours)
        for alias in (ours, _renamed(name, to_compvis), name):
            table.setdefault(flat(alias), target)
    return table


# -------------------------------------------------------------------------------------------- text encoders

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


def _text_targets(root: nn.Module) -> dict[str, Target]:
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
    for name, module in _layers(tower):
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


def _layers(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of all layers; PEFT's wrappers in the host count as the layer they wrap."""
    for name, module in root.named_modules():
        if kind_of(module) and not name.endswith(".base_layer"):
            yield name, module


def _find(root: nn.Module, offers: tuple[str, ...]) -> nn.Module | None:
    """The first module, from the root down, that has all these attributes."""
    return next((module for module in root.modules() if all(hasattr(module, name) for name in offers)), None)
