"""Weights by block: layers get the strength of their block, as in a merge by hand, in the extension's layouts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from models import kohya, layers_of, merged, run_unet, text_encoder, tree, unet
from safetensors.torch import save_file
from torch import Tensor, nn

from clora.lora.block_weights import LAYOUTS, block_weight, read_block_weights
from clora.lora.library import LoraLibrary
from clora.lora.rows import RowLoras
from clora.models.lora import lora_targets
from clora.models.unet_layers import _layout_names, _renamed
from clora.prompt import LoraUse

pytest.importorskip("diffusers", reason="diffusers is not installed")


@cache
def host(family: str) -> nn.Module:
    return unet(family)


def compvis_name(model: nn.Module, name: str) -> str:
    return _renamed(name, dict(_layout_names(model)))


def block_by_hand(name: str) -> str:
    """The block of a layer by its CompVis name, written out apart from the code under test."""
    for start, kind in (("input_blocks.", "IN"), ("output_blocks.", "OUT")):
        if name.startswith(start):
            return kind + name.split(".")[1].zfill(2)
    return "M00" if name.startswith("middle_block.") else ""


def everything(name: str) -> bool:
    return True


@pytest.mark.parametrize(("family", "count"), [("sd1", 17), ("sd1", 26), ("sdxl", 12), ("sdxl", 20)])
def test_a_row_is_the_merge_by_hand(family: str, count: int, tmp_path: Path) -> None:
    """Every block has another weight; blocks that the list leaves out have none, layers in no block all of it."""
    model = host(family)
    tensors = kohya("lora_unet_", model, everything)
    save_file(tensors, tmp_path / "cat.safetensors")
    numbers = tuple(round(0.1 + 0.07 * i, 2) for i in range(count))
    use = LoraUse("cat", 1.0, 0.5, blocks=numbers)
    lora = LoraLibrary(tmp_path).applied(use, lora_targets({"unet": model}))

    weights = dict(zip(LAYOUTS[count], numbers, strict=True))
    changed: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, layer in layers_of(model).items():
        block = block_by_hand(compvis_name(model, name))
        strength = 0.5 * (weights.get(block, 0.0) if block else 1.0)
        used |= {block} if strength else set()
        key = "lora_unet_" + name.replace(".", "_")
        down, up = (tensors[f"{key}.lora_{half}.weight"].double() for half in ("down", "up"))
        delta = torch.einsum("or,r...->o...", up.flatten(1), down) * (2.0 / 3)
        changed[f"{name}.weight"] = layer.weight + strength * delta
    # The tiny SDXL UNet has all blocks of the layout too.
    assert {block for block in LAYOUTS[count] if block != "BASE"} <= used

    rows = RowLoras("unet", model, [[], [lora]])
    with rows.installed(), rows.rows([0, 1]):
        mixed = run_unet(model, 2)
    plain, by_hand = run_unet(model, 2), merged(model, changed, lambda one: run_unet(one, 2))
    torch.testing.assert_close(mixed[0], plain[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(mixed[1], by_hand[1], rtol=0, atol=1e-10)
    assert not torch.allclose(by_hand[1], plain[1], atol=1e-3)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_both_module_trees_have_the_same_blocks(family: str) -> None:
    model = host(family)
    leaves = {compvis_name(model, name): layer for name, layer in layers_of(model).items()}
    compvis = nn.ModuleDict({"diffusion_model": tree(leaves)})
    blocks = [
        {target.module: target.block for target in lora_targets({"unet": root}).tables["unet"].values()}
        for root in (model, compvis)
    ]
    for layer, name in ((layer, name) for name, layer in leaves.items()):
        assert blocks[0][layer] == blocks[1][layer] == block_by_hand(name)
    found = {block for block in blocks[0].values() if block}
    assert all(re.fullmatch(r"IN\d\d|M00|OUT\d\d", block) for block in found)
    assert found == set(LAYOUTS[26 if family == "sd1" else 20]) - {"BASE"}


def test_the_first_number_is_for_the_text_encoder(tmp_path: Path) -> None:
    model = text_encoder()
    save_file(kohya("lora_te_text_model_", model.text_model), tmp_path / "cat.safetensors")
    targets = lora_targets({"text_encoder": model})
    library = LoraLibrary(tmp_path)
    by_blocks = library.applied(LoraUse("cat", 0.5, 1.0, blocks=(0.4, *[0.0] * 16)), targets)
    plain = library.applied(LoraUse("cat", 0.2, 1.0), targets)
    for one, two in zip(by_blocks.deltas["text_encoder"].values(), plain.deltas["text_encoder"].values(), strict=True):
        assert one[0].strength == pytest.approx(two[0].strength)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (",".join(["1"] * 12), 12), (", ".join(["0.5"] * 17), 17), (",".join(["-.5"] * 20), 20),
        (",".join(["1e-1"] * 26), 26), (",".join(["1"] * 16), 0), ("OUTALL", 0), ("", 0), (",".join(["R"] * 17), 0),
        (",".join(["1"] * 16 + ["nan"]), 0), (",".join(["1"] * 16 + ["1001"]), 0), (",".join(["1"] * 16 + [""]), 0),
        (",".join(["1"] * 16 + ["\u0661"]), 0),
    ],
)  # fmt: skip
def test_what_is_a_list_of_weights(text: str, count: int) -> None:
    assert len(read_block_weights(text, 1000) or ()) == count


def test_without_weights_nothing_changes() -> None:
    assert block_weight((), "unet", "IN01") == block_weight((), "text_encoder", "") == 1.0
