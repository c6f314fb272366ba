"""Files that cannot be used: each is refused with what it is, and no sentence has one base model on both sides.

The tables below are keys and shapes as in real files, cut down to what tells the files apart.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from models import text_encoder, unet
from safetensors.torch import save_file
from torch import Tensor, nn

from clora.errors import CLoRAError
from clora.lora.file import read_lora
from clora.lora.resolve import AppliedLora
from clora.models.lora import apply_lora

pytest.importorskip("diffusers", reason="diffusers is not installed")
Shapes = dict[str, tuple[int, ...]]
KEY = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
CROSS = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


@cache
def host(width: int) -> dict[str, nn.Module]:
    return {"unet": unet("small", width), "text_encoder": text_encoder()}


def read(
    folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None, width: int = 768
) -> AppliedLora:
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "cat.safetensors", metadata)
    return apply_lora(read_lora(folder / "cat.safetensors"), host(width), te=1.0, unet=1.0)


def refusal(folder: Path, shapes: Shapes, metadata: dict[str, str] | None = None, width: int = 768) -> str:
    with pytest.raises(CLoRAError) as error:
        read(folder, {key: torch.full(shape, 0.1) for key, shape in shapes.items()}, metadata, width)
    text = str(error.value)
    assert "\n" not in text
    assert "cat.safetensors" in text
    made = re.search(r"was made for (.+?), but (.+?) is loaded", text)
    assert made is None or made[1] != made[2]
    return text


def pair(name: str, width: int, out: int | None = None, rank: int = 4, style: str = "lora_down lora_up") -> Shapes:
    down, up = style.split()
    return {f"{name}.{down}.weight": (rank, width), f"{name}.{up}.weight": (out or width, rank)}


PEFT = "lora_A lora_B"
OTHER_MODELS: dict[str, tuple[str, Shapes]] = {
    "flux kohya": ("Flux", pair("lora_unet_double_blocks_0_img_attn_qkv", 3072)),
    "flux kohya single": ("Flux", pair("lora_unet_single_blocks_3_linear1", 3072)),
    "flux diffusers": ("Flux", pair("transformer.single_transformer_blocks.0.attn.to_q", 3072, style=PEFT)),
    "flux both kinds": (
        "Flux",
        pair("transformer.transformer_blocks.0.attn.to_q", 3072, style=PEFT)
        | pair("transformer.single_transformer_blocks.0.attn.to_q", 3072, style=PEFT),
    ),
    "flux comfy": ("Flux", pair("diffusion_model.double_blocks.0.img_attn.qkv", 3072, style=PEFT)),
    "flux loha": ("Flux", {f"lycoris_single_blocks_0_linear1.hada_w{i}_{s}": (4, 4) for i in "12" for s in "ab"}),
    "flux with clip": (
        "Flux",
        pair("lora_unet_double_blocks_0_img_attn_qkv", 3072)
        | pair("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", 16),
    ),
    "flux 2": ("Flux.2", pair("transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 6144, style=PEFT)),
    "chroma": (
        "Chroma",
        pair("lora_unet_distilled_guidance_layer_layers_0_in_layer", 64)
        | pair("lora_unet_double_blocks_0_img_attn_qkv", 3072),
    ),
    "sd3 diffusers": ("SD 3", pair("transformer.transformer_blocks.0.attn.to_q", 1536, style=PEFT)),
    "sd3.5 diffusers": ("SD 3", pair("transformer.transformer_blocks.0.attn.add_k_proj", 2432, style=PEFT)),
    "sd3 kohya": ("SD 3", pair("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536)),
    "qwen-image": ("Qwen-Image", pair("transformer.transformer_blocks.0.img_mlp.net.2", 12288, 3072, style=PEFT)),
    "qwen-image attention": (
        "Qwen-Image",
        pair("transformer.transformer_blocks.0.attn.to_q", 3072, style=PEFT)
        | pair("transformer.transformer_blocks.40.attn.to_q", 3072, style=PEFT),
    ),
    "flux or qwen": ("Flux or Qwen-Image", pair("diffusion_model.transformer_blocks.0.attn.to_q", 3072, style=PEFT)),
    "z-image": ("Z-Image", pair("diffusion_model.layers.0.attention.to_q", 3840, style=PEFT)),
    "z-image kohya": ("Z-Image", pair("lora_unet_layers_0_attention_qkv", 3840, 11520)),
    "lumina": ("Lumina 2", pair("lora_unet_layers_0_attention_qkv", 2304)),
    "wan": ("Wan", pair("diffusion_model.blocks.0.self_attn.q", 5120, style=PEFT)),
    "wan kohya": ("Wan", pair("lora_unet_blocks_0_cross_attn_k", 5120)),
    "hunyuan video": ("HunyuanVideo", pair("lora_unet_double_blocks_0_img_mlp_fc1", 3072)),
    "hidream": ("HiDream", pair("diffusion_model.double_stream_blocks.0.block.attn1.to_q", 2560, style=PEFT)),
    "auraflow": ("AuraFlow", pair("transformer.joint_transformer_blocks.0.attn.to_q", 3072, style=PEFT)),
    "pixart": ("PixArt", pair("transformer.transformer_blocks.0.attn1.to_q", 1152, style=PEFT)),
    "ltx": ("LTX-Video", pair("transformer.transformer_blocks.0.attn1.to_q", 2048, style=PEFT)),
    "cosmos": ("Cosmos or Anima", pair("diffusion_model.blocks.0.self_attn.q_proj", 2048, style=PEFT)),
    "hunyuan dit": ("HunyuanDiT", pair("lora_unet_blocks_0_attn1_Wqkv", 1408)),
    "cascade": ("Stable Cascade", pair("lora_prior_unet_down_blocks_0_1_attention_attn_in_proj", 2048)),
    "language model": (
        "a language model",
        pair("base_model.model.model.layers.0.self_attn.q_proj", 4096, style=PEFT),
    ),
    "any transformer": (
        "a transformer model (SD 3, Flux, ...)",
        pair("transformer.transformer_blocks.0.attn1.to_q", 999, style=PEFT),
    ),
    "unknown transformer": ("a transformer model (SD 3, Flux, ...)", pair("transformer.x.to_q", 999, style=PEFT)),
    "sdxl": ("SDXL", pair(f"lora_unet_{CROSS}", 2048, 16)),
    "sdxl peft": ("SDXL", pair(f"unet.{CROSS}".replace("_attn2_", ".attn2."), 2048, 16, style=PEFT)),
    "sdxl loha": (
        "SDXL",
        {
            f"lora_unet_{CROSS}.hada_w{i}_{side}": (4, 2048) if side == "b" else (16, 4)
            for i in "12"
            for side in "ab"
        },
    ),
    "sdxl loha by names": (
        "SDXL",
        {
            f"lora_unet_input_blocks_8_1_transformer_blocks_9_attn1_to_q.hada_w{i}_{side}": (4, 4)
            for i in "12"
            for side in "ab"
        },
    ),
    "sdxl lokr": (
        "SDXL",
        {f"lora_unet_{CROSS}.lokr_w1": (4, 32), f"lora_unet_{CROSS}.lokr_w2": (4, 64)},
    ),
    "sdxl full": ("SDXL", {f"lora_unet_{CROSS}.diff": (16, 2048)}),
    "sdxl oft": ("SDXL", {"oft_unet_middle_block_1_transformer_blocks_9_attn2_to_k.oft_blocks": (4, 4, 4)}),
    "sdxl second encoder": ("SDXL", pair("lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280)),
    "sd2": ("SD 2.x", pair(f"lora_unet_{CROSS}", 1024, 16)),
    "sd2 text encoder": ("SD 2.x", pair("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 1024)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_loras_of_other_models_by_name(tmp_path: Path, name: str) -> None:
    made, shapes = OTHER_MODELS[name]
    assert f"was made for {made}, but SD 1.x is loaded" in refusal(tmp_path, shapes)


def test_sd1_on_sdxl(tmp_path: Path) -> None:
    """The other way round: a LoRA of SD 1.x, each by one of its traits, on a model with SDXL's text embeddings."""
    assert "made for SD 1.x, but SDXL" in refusal(tmp_path, pair(f"lora_unet_{CROSS}", 768, 16), width=2048)
    shapes = pair("lora_unet_up_blocks_3_attentions_0_proj_in", 8)
    assert "made for SD 1.x or SD 2.x, but SDXL" in refusal(tmp_path, shapes, width=2048)


OTHER_FILES: dict[str, tuple[str, Shapes]] = {
    "embedding of SD 1.x": ("a textual inversion embedding", {"emb_params": (4, 768)}),
    "embedding of SDXL": ("a textual inversion embedding", {"clip_l": (4, 768), "clip_g": (4, 1280)}),
    "embedding of OneTrainer": ("a textual inversion embedding", {"clip_l": (4, 768), "clip_l_out": (4, 768)}),
    "embedding of the WebUI": ("a textual inversion embedding", {"string_to_param.*": (4, 768)}),
    "embedding of diffusers": ("a textual inversion embedding", {"<sks-cat>": (768,)}),
    "embeddings alone": ("a textual inversion embedding", {"bundle_emb.sks.clip_l": (4, 768)}),
    "VAE": ("a VAE", {"decoder.up.0.block.0.conv1.weight": (4, 4, 3, 3), "post_quant_conv.weight": (4, 4, 1, 1)}),
    "VAE of diffusers": ("a VAE", {"encoder.down_blocks.0.resnets.0.conv1.weight": (4, 4, 3, 3)}),
    "VAE of a checkpoint": ("a VAE", {"first_stage_model.decoder.conv_in.weight": (4, 4, 3, 3)}),
    "checkpoint": (
        "a checkpoint",
        {
            "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight": (8, 8),
            "first_stage_model.decoder.conv_in.weight": (4, 4, 3, 3),
            "cond_stage_model.transformer.text_model.final_layer_norm.weight": (16,),
        },
    ),
    "checkpoint of diffusers": (
        "a checkpoint",
        {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": (8, 8), "conv_in.bias": (8,)},
    ),
    "checkpoint of Flux": ("a checkpoint", {"double_blocks.0.img_attn.qkv.weight": (8, 8)}),
    "ControlNet": (
        "a ControlNet",
        {
            "control_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight": (8, 8),
            "control_model.zero_convs.0.0.weight": (8, 8, 1, 1),
        },
    ),
    "ControlNet of diffusers": (
        "a ControlNet",
        {
            "controlnet_cond_embedding.conv_in.weight": (8, 3, 3, 3),
            "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": (8, 8),
        },
    ),
    "Control-LoRA": ("a ControlNet", {"lora_controlnet": (1,), "input_blocks.1.0.in_layers.2.down": (4, 4)}),
    "IP-Adapter": ("an IP-Adapter", {"image_proj.proj.weight": (8, 8), "ip_adapter.1.to_k_ip.weight": (8, 8)}),
    "IP-Adapter FaceID": (
        "an IP-Adapter",
        {"ip_adapter.0.to_q_lora.down.weight": (4, 8), "image_proj.a.weight": (8,)},
    ),
    "motion module": (
        "a motion module of AnimateDiff",
        {"down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": (8, 8)},
    ),
    "motion LoRA": (
        "a motion module of AnimateDiff",
        pair("down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q", 8),
    ),
    "text encoder": ("a text encoder", {"text_model.encoder.layers.0.self_attn.q_proj.weight": (16, 16)}),
    "T5": ("a text encoder", {"encoder.block.0.layer.0.SelfAttention.q.weight": (16, 16)}),
    "upscaler": ("an upscaler", {"model.0.weight": (8, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (8, 8, 3, 3)}),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_files_that_are_no_lora(tmp_path: Path, name: str) -> None:
    what, shapes = OTHER_FILES[name]
    text = refusal(tmp_path, shapes)
    assert f'"cat" (cat.safetensors) is {what}, not a LoRA: ' in text
    assert "made for" not in text


@pytest.mark.parametrize("part", ["lora_down", "lora_up"])
@pytest.mark.parametrize("shape", [(0,), (0, 8)])
def test_empty_tensors(tmp_path: Path, part: str, shape: tuple[int, ...]) -> None:
    shapes = pair(f"lora_unet_{KEY}", 8) | {f"lora_unet_{KEY}.{part}.weight": shape}
    text = refusal(tmp_path, shapes, {"ss_base_model_version": "sd_v1"})
    assert f"holds empty tensors (lora_unet_{KEY}.{part} has the shape {list(shape)})" in text
    assert "made for" not in text


def test_empty_tensors_of_unknown_layers(tmp_path: Path) -> None:
    assert "holds empty tensors" in refusal(tmp_path, {"lora_unet_nowhere.lora_down.weight": (0,)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_nan_and_infinite_tensors_are_named(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    tensors = {key: torch.full(shape, 0.1) for key, shape in pair(f"lora_unet_{KEY}", 8).items()}
    tensors[f"lora_unet_{KEY}.lora_up.weight"][3, 2] = value
    with pytest.raises(CLoRAError, match=rf'NaN or infinite values in its tensor "lora_unet_{KEY}.lora_up'):
        read(tmp_path, {key: of.to(dtype) for key, of in tensors.items()})


def test_large_finite_tensors_are_read(tmp_path: Path) -> None:
    """Their sum may overflow; no value does."""
    tensors = {key: torch.full(shape, 3e38) for key, shape in pair(f"lora_unet_{KEY}", 8).items()}
    assert read(tmp_path, tensors).layer_count == 1


def test_an_unknown_format_names_a_tensor(tmp_path: Path) -> None:
    shapes = {f"unet.{KEY.replace('_attn1_', '.attn1.')}.lora.spectrum": (4, 8)}
    text = refusal(tmp_path, shapes)
    assert "has a format that CLoRA cannot read: its layers are those of SD 1.x" in text
    assert "spectrum belongs to no known format" in text


def test_half_a_lora_is_no_other_model(tmp_path: Path) -> None:
    text = refusal(tmp_path, {f"lora_unet_{KEY}.lora_down.weight": (4, 8)}, {"ss_base_model_version": "sd_v1"})
    assert "has a format that CLoRA cannot read" in text
    assert "lora_down" in text


@pytest.mark.parametrize(
    "metadata",
    [{}, {"ss_base_model_version": "sd_v1"}, {"modelspec.architecture": "stable-diffusion-v1/lora"}],
    ids=["none", "kohya", "modelspec"],
)
@pytest.mark.parametrize(
    "shapes",
    [
        pair(f"lora_unet_{KEY}", 9),
        pair("lora_unet_nowhere", 8),
        pair("lora_unet_nowhere", 8) | {"lora_unet_elsewhere.diff": (3, 3)},
        pair(f"lora_unet_{CROSS}", 768, 9),
    ],
    ids=["shapes", "no layer", "no layers", "output"],
)
def test_one_model_is_never_on_both_sides(tmp_path: Path, shapes: Shapes, metadata: dict[str, str]) -> None:
    text = refusal(tmp_path, shapes, metadata)
    assert "does not fit the loaded model, SD 1.x (" in text


@pytest.mark.parametrize(
    ("metadata", "made"),
    [
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        ({"ss_base_model_version": "flux1"}, "Flux"),
        ({"ss_base_model_version": "sd3_m"}, "SD 3"),
        ({"ss_base_model_version": "qwen_image"}, "Qwen-Image"),
        ({"ss_base_model_version": "zimage:turbo"}, "Z-Image"),
        ({"ss_v2": "True"}, "SD 2.x"),
        ({"modelspec.architecture": "Flux.1-dev/lora"}, "Flux"),
        ({"modelspec.architecture": "flux-2-dev/lora"}, "Flux.2"),
        ({"modelspec.architecture": "wan2.1/lora"}, "Wan"),
    ],
)
def test_a_file_that_fits_is_used_whatever_its_metadata_says(
    tmp_path: Path, metadata: dict[str, str], made: str
) -> None:
    tensors = {key: torch.full(shape, 0.1) for key, shape in pair(f"lora_unet_{KEY}", 8).items()}
    lora = read(tmp_path, tensors, metadata)
    assert lora.layer_count == 1
    assert lora.warning == f'LoRA "cat": its metadata names {made}, but all its tensors fit SD 1.x, so it is used.'
    embedded = read(tmp_path, tensors | {"bundle_emb.sks.clip_l": torch.ones(1, 768)}, metadata)
    assert embedded.warning == lora.warning
    assert [one.name for one in embedded.embeddings] == ["sks"]


def test_the_width_of_the_text_outweighs_the_metadata(tmp_path: Path) -> None:
    """A file with a tensor more than the model has, whose cross-attention fits."""
    tensors = {key: torch.full(shape, 0.1) for key, shape in pair(f"lora_unet_{CROSS}", 768, 8).items()}
    more = tensors | {"lora_unet_nowhere.alpha": torch.tensor(1.0)}
    assert "but its tensors fit SD 1.x" in read(tmp_path, more, {"ss_base_model_version": "sdxl_base_v1-0"}).warning


def test_another_model_with_a_text_encoder_that_fits(tmp_path: Path) -> None:
    shapes = pair("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 16)
    assert read(tmp_path, {key: torch.full(shape, 0.1) for key, shape in shapes.items()}).layer_count == 1
    flux = shapes | pair("lora_unet_single_blocks_0_linear1", 3072)
    assert "made for Flux, but SD 1.x is loaded (only its text encoder fits)" in refusal(tmp_path, flux)


@pytest.mark.parametrize(
    "settings",
    [
        '{"lora_alpha": 1e999, "r": 4}',
        '{"lora_alpha": %s, "r": 4}' % (10**400),
        '{"lora_alpha": NaN, "r": 0, "use_rslora": true}',
        '{"alpha_pattern": {"((((": 3, "a*a*a*a*b": 4, ".*.*.*.*.*.*.*x": 5}, "rank_pattern": [1], "lora_alpha": "8"}',
        '{"num_cayley_neumann_terms": "many", "eps": [], "coft": true, "init_lora_weights": {}, "peft_type": 3}',
        '{"projection_prng_key": %s, "feedforward_modules": 3}' % (10**40),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["lora", "oft_peft", "vera"])
def test_settings_are_untrusted(tmp_path: Path, settings: str, form: str) -> None:
    """Any settings give a finite change or a CLoRAError."""
    from making import tensors_of

    from clora.lora.rows import RowLoras

    layer = host(768)["unet"].get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    tensors = {
        suffix: tensor for suffix, tensor in tensors_of(form, layer).items() if suffix not in ("alpha", "vera_A")
    }
    keys = {"lora_down": "lora_A.weight", "lora_up": "lora_B.weight", "oft_R": "oft_R.weight"}
    name = "base_model.model.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    metadata = {"lora_adapter_metadata": settings}
    try:
        lora = read(tmp_path, {f"{name}.{keys.get(suffix, suffix)}": of for suffix, of in tensors.items()}, metadata)
    except CLoRAError:
        assert form == "vera"
        return
    assert all(of.isfinite().all() for of in RowLoras("unet", host(768)["unet"], [[lora]]).dense(0).values())


@pytest.mark.parametrize("seed", range(60))
def test_tensors_of_any_shape_are_an_error_or_work(tmp_path: Path, seed: int) -> None:
    """One tensor of a format with another shape: refused, or used without any error later."""
    import random as chance

    from making import FORMS, deltas_on, fits, input_for, layers, tensors_of

    from clora.lora.formats import Layer, ShapeError, kind_of
    from clora.lora.stack import Stack

    dice = chance.Random(seed)
    for form in FORMS:
        kind = dice.choice([kind for kind in ("linear", "conv1x1", "conv3x3") if fits(form, kind)])
        if kind == "linear" and form in ("mid", "loha_tucker", "lokr_tucker"):
            continue
        layer = layers()[kind]
        tensors = tensors_of(form, layer)
        changed = dice.choice(sorted(tensors.keys() - {"alpha"}))
        shape = [dice.choice([1, 2, 3, 4, 12, 16, 108]) for _ in range(dice.randint(0, 4))]
        tensors[changed] = torch.ones(shape, dtype=tensors[changed].dtype)
        try:
            stack = Stack(Layer(layer, kind_of(layer)), deltas_on(layer, tensors))
        except (ShapeError, AssertionError):
            continue
        x = input_for(layer, 2)
        weight, _ = stack.dense()
        assert weight.shape == layer.weight.shape
        assert stack(x, layer(x)).shape == layer(x).shape
