"""Every name that a file may use for a layer finds that layer, in diffusers and in CompVis hosts."""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from models import OpenClip, layers_of, text_encoder, tree, unet
from torch import nn

from clora.lora.keys import aliases, flat, locate_module, split_key
from clora.lora.target import Target
from clora.models.unet import UNetFamily
from clora.models.unet_layers import _layout_names, _renamed
from tests.conftest import GOLDEN

pytest.importorskip("diffusers", reason="diffusers is not installed")
needs_golden = pytest.mark.skipif(not (GOLDEN / "model").is_dir(), reason=f"no golden data at {GOLDEN}")
NORMS = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)

# kohya's key -> diffusers' name, as in real SDXL and SD 1.x files
SDXL = {
    "lora_unet_input_blocks_1_0_in_layers_2": "down_blocks.0.resnets.0.conv1",
    "lora_unet_input_blocks_2_0_emb_layers_1": "down_blocks.0.resnets.1.time_emb_proj",
    "lora_unet_input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
    "lora_unet_input_blocks_7_0_skip_connection": "down_blocks.2.resnets.0.conv_shortcut",
    "lora_unet_input_blocks_4_1_proj_in": "down_blocks.1.attentions.0.proj_in",
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q": "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "lora_unet_input_blocks_8_1_transformer_blocks_2_attn2_to_k": "down_blocks.2.attentions.1.transformer_blocks.2.attn2.to_k",
    "lora_unet_middle_block_0_out_layers_3": "mid_block.resnets.0.conv2",
    "lora_unet_middle_block_1_transformer_blocks_1_ff_net_0_proj": "mid_block.attentions.0.transformer_blocks.1.ff.net.0.proj",
    "lora_unet_middle_block_2_in_layers_2": "mid_block.resnets.1.conv1",
    "lora_unet_output_blocks_0_1_transformer_blocks_0_attn1_to_out_0": "up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "lora_unet_output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
    "lora_unet_output_blocks_5_1_proj_out": "up_blocks.1.attentions.2.proj_out",
    "lora_unet_output_blocks_5_2_conv": "up_blocks.1.upsamplers.0.conv",
    "lora_unet_output_blocks_8_0_skip_connection": "up_blocks.2.resnets.2.conv_shortcut",
    "lora_unet_label_emb_0_2": "add_embedding.linear_2",
    "lora_unet_time_embed_0": "time_embedding.linear_1",
    "lora_unet_out_2": "conv_out",
    "lora_unet_input_blocks_0_0": "conv_in",
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_v": "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v",
}
SD1 = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0": "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "lora_unet_up_blocks_3_attentions_2_proj_in": "up_blocks.3.attentions.2.proj_in",
    "lora_unet_up_blocks_0_upsamplers_0_conv": "up_blocks.0.upsamplers.0.conv",
    "lora_unet_output_blocks_2_1_conv": "up_blocks.0.upsamplers.0.conv",
    "lora_unet_output_blocks_11_1_proj_in": "up_blocks.3.attentions.2.proj_in",
    "lora_unet_input_blocks_9_0_op": "down_blocks.2.downsamplers.0.conv",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": "mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out": "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "base_model.model.mid_block.attentions.0.proj_in": "mid_block.attentions.0.proj_in",
    "unet.base_model.model.mid_block.attentions.0.proj_in": "mid_block.attentions.0.proj_in",
    "lycoris_mid_block_attentions_0_proj_out": "mid_block.attentions.0.proj_out",
    "lycoris_unet_mid_block_attentions_0_proj_out": "mid_block.attentions.0.proj_out",
    "diffusion_model.input_blocks.1.1.proj_in": "down_blocks.0.attentions.0.proj_in",
    "model.diffusion_model.middle_block.1.proj_in": "mid_block.attentions.0.proj_in",
}


@cache
def host(family: str) -> nn.Module:
    return unet(family)


def found(key: str, component: str, table: dict[str, Target]) -> Target:
    components, name = locate_module(key)
    assert component in components
    return next(table[alias] for alias in aliases(name) if alias in table)


@pytest.mark.parametrize(("family", "keys"), [("sdxl", SDXL), ("sd1", SD1), ("sd2", SD1)])
@pytest.mark.parametrize("compvis", [False, True], ids=["diffusers", "compvis"])
def test_known_keys(family: str, keys: dict[str, str], compvis: bool) -> None:
    model = host(family)
    table = UNetFamily().lora_targets("unet", as_compvis(family) if compvis else model)
    for key, name in keys.items():
        target = found(key, "unet", table)
        assert target.module is model.get_submodule(name), key
        assert target.name == name


def as_compvis(family: str) -> nn.Module:
    """The layers of the diffusers UNet in a CompVis tree, wrapped as hosts wrap it.

    Its names are checked against diffusers' converter and the golden key table below.
    """
    model = host(family)
    pairs = dict(_layout_names(model))
    return nn.ModuleDict(
        {"diffusion_model": tree({_renamed(name, pairs): layer for name, layer in layers_of(model, NORMS).items()})}
    )


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_sgm_names_agree_with_diffusers_converter(family: str) -> None:
    from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers

    pairs = dict(_layout_names(host(family)))
    names = [name for name in layers_of(host(family)) if ".attentions." in name]
    sgm = {"lora_unet_" + flat(_renamed(name, pairs)): name for name in names}
    assert len(sgm) == len(names) > 40
    back = _maybe_map_sgm_blocks_to_diffusers(dict.fromkeys(sgm, 0), SimpleNamespace(layers_per_block=2))
    normal = {
        key.replace("input_blocks", "down_blocks")
        .replace("middle_block", "mid_block")
        .replace("output_blocks", "up_blocks")
        for key in back
    }
    assert normal == {"lora_unet_" + flat(name) for name in names}


@needs_golden
def test_golden_unet_keys() -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(GOLDEN / "model" / "unet"))
    names = {
        ours.rpartition(".")[0]: theirs.removeprefix("model.diffusion_model.").rpartition(".")[0]
        for ours, theirs in json.loads((GOLDEN / "model" / "ldm_keys.json").read_text())["unet"].items()
    }
    table = UNetFamily().lora_targets("unet", model)
    compvis = UNetFamily().lora_targets(
        "unet", tree({theirs: model.get_submodule(ours) for ours, theirs in names.items()})
    )
    assert len(names) > 300
    for ours, theirs in names.items():
        module = model.get_submodule(ours)
        for of in (table, compvis):
            assert of[flat(ours)].module is module
            assert of[flat(theirs)].module is module
            assert of[flat(theirs)].name == ours


@pytest.mark.parametrize(
    "key",
    [
        "lora_te_text_model_encoder_layers_1_self_attn_q_proj",
        "lora_te1_text_model_encoder_layers_1_self_attn_q_proj",
        "text_encoder.text_model.encoder.layers.1.self_attn.q_proj",
        "lycoris_te_text_model_encoder_layers_1_self_attn_q_proj",
        "text_encoder.text_model.encoder.layers.1.self_attn.to_q",
        "clip_l.text_model.encoder.layers.1.self_attn.q_proj",
        "text_encoders.clip_l.transformer.text_model.encoder.layers.1.self_attn.q_proj",
        "text_encoders.clip_h.transformer.text_model.encoder.layers.1.self_attn.q_proj",
        "base_model.model.text_model.encoder.layers.1.self_attn.q_proj",
        "cond_stage_model.transformer.text_model.encoder.layers.1.self_attn.q_proj",
    ],
)
def test_text_encoder_keys(key: str) -> None:
    model = text_encoder()
    target = found(
        key, "text_encoder", UNetFamily().lora_targets("text_encoder", nn.ModuleDict({"transformer": model}))
    )
    assert target.module is model.text_model.encoder.layers[1].self_attn.q_proj


def test_second_text_encoder_and_projection() -> None:
    model = text_encoder(projection=True)
    table = UNetFamily().lora_targets("text_encoder_2", model)
    for key, name in {
        "lora_te2_text_model_encoder_layers_0_mlp_fc1": "text_model.encoder.layers.0.mlp.fc1",
        "text_encoder_2.text_projection": "text_projection",
        "lora_te2_text_model_final_layer_norm": "text_model.final_layer_norm",
    }.items():
        assert found(key, "text_encoder_2", table).module is model.get_submodule(name)
        assert "text_encoder" not in locate_module(key)[0]


@pytest.mark.parametrize("batch_first", [False, True])
def test_open_clip_names(batch_first: bool) -> None:
    tower = OpenClip(text_encoder(), batch_first)
    table = UNetFamily().lora_targets("text_encoder_2", nn.ModuleDict({"model": tower}))
    axis = 0 if batch_first else 1
    block = tower.transformer.resblocks[1]
    for key, module, part, row_axis in (
        ("lora_te2_text_model_encoder_layers_1_self_attn_v_proj", block.attn, "v", axis),
        ("lora_te2_text_model_encoder_layers_1_self_attn_out_proj", block.attn, "out", axis),
        ("lora_te2_transformer_resblocks_1_attn_in_proj", block.attn, "in", axis),
        ("text_encoder_2.text_model.encoder.layers.1.mlp.fc2", block.mlp.c_proj, "", axis),
        ("lora_te2_text_model_encoder_layers_1_layer_norm1", block.ln_1, "", axis),
        ("lora_te2_text_model_final_layer_norm", tower.ln_final, "", 0),
        ("conditioner.embedders.1.model.transformer.resblocks.1.mlp.c_fc", block.mlp.c_fc, "", axis),
    ):
        target = found(key, "text_encoder_2", table)
        assert (target.module, target.part, target.row_axis) == (module, part, row_axis), key


def test_split_and_locate_work_together() -> None:
    module, suffix = split_key("unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.up.weight")
    assert suffix == "lora_up"
    assert locate_module(module) == (("unet",), "mid_block_attentions_0_transformer_blocks_0_attn1_to_out")
