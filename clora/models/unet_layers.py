"""The layers of a UNet under every name a LoRA file may use for them, found by the structure of the model.

UNets are listed under diffusers names (`down_blocks_0_...`) and CompVis/SGM names (`input_blocks_1_1_...`), whichever
the host itself uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..lora.keys import flat
from ..lora.target import Pairs, Target, find_module, named_layers


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

    number = 1  # input_blocks.0 is conv_in
    for level, block in enumerate(down):
        for i in range(block.resnets):
            resnet(f"down_blocks.{level}.resnets.{i}", f"input_blocks.{number}.0")
            if i < block.attentions:
                pairs.append((f"down_blocks.{level}.attentions.{i}", f"input_blocks.{number}.1"))
            number += 1
        if block.resample:
            pairs.append((f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{number}.0.op"))
            number += 1
    for i in range(middle.resnets):
        resnet(f"mid_block.resnets.{i}", f"middle_block.{i + min(i, middle.attentions)}")
    for i in range(middle.attentions):
        pairs.append((f"mid_block.attentions.{i}", f"middle_block.{2 * i + 1}"))
    number = 0
    for level, block in enumerate(up):
        for i in range(block.resnets):
            resnet(f"up_blocks.{level}.resnets.{i}", f"output_blocks.{number}.0")
            if i < block.attentions:
                pairs.append((f"up_blocks.{level}.attentions.{i}", f"output_blocks.{number}.1"))
            number += 1
        if block.resample:
            last = 2 if block.attentions else 1
            pairs.append((f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{number - 1}.{last}.conv"))
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


_BLOCK = re.compile(r"(input|middle|output)_blocks?\.(\d+)")
_BLOCK_KINDS = {"input": "IN", "output": "OUT"}


def _block_of(name: str) -> str:
    """The block of a layer by its CompVis name, "" for a layer that is in none."""
    match = _BLOCK.match(name)
    if match is None:
        return ""
    kind, number = match.groups()
    return "M00" if kind == "middle" else f"{_BLOCK_KINDS[kind]}{int(number):02}"


def unet_targets(root: nn.Module) -> dict[str, Target]:
    unet = find_module(root, ("input_blocks", "output_blocks")) or find_module(root, ("down_blocks", "up_blocks"))
    if unet is None:
        return {}
    pairs = _layout_names(unet)
    compvis = hasattr(unet, "input_blocks")
    to_diffusers = {theirs: ours for ours, theirs in pairs} if compvis else {}
    to_compvis = {} if compvis else dict(pairs)
    table: dict[str, Target] = {}
    for name, module in named_layers(unet):
        ours = _renamed(name, to_diffusers)
        theirs = name if compvis else _renamed(name, to_compvis)
        target = Target(module, ours, block=_block_of(theirs))
        for alias in (ours, theirs, name):
            table.setdefault(flat(alias), target)
    return table
