"""A file on a model: layouts agree, strengths and ranks work, every tensor is accounted for, misfits are errors."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from making import alpha, random
from models import kohya, layers_of, peft, text_encoder, unet
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from clora.errors import CLoRAError
from clora.lora.file import read_lora
from clora.lora.resolve import AppliedLora, warn_on_unhandled
from clora.lora.rows import RowLoras
from clora.models.lora import apply_lora

pytest.importorskip("diffusers", reason="diffusers is not installed")
KEY = "lora_unet_mid_block_attentions_0_proj_in"


@cache
def models() -> dict[str, nn.Module]:
    return {"unet": unet(), "text_encoder": text_encoder()}


def apply(
    folder: Path,
    tensors: dict[str, Tensor],
    metadata: dict[str, str] | None = None,
    components: dict[str, nn.Module] | None = None,
    **options: float,
) -> AppliedLora:
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, folder / "cat.safetensors", metadata)
    options = {"te": 1.0, "unet": 1.0} | options
    return apply_lora(read_lora(folder / "cat.safetensors"), components or models(), **options)


def dense(lora: AppliedLora, component: str = "unet") -> dict[str, Tensor]:
    return RowLoras(component, models()[component], [[lora]]).dense(0)


def same(one: AppliedLora, two: AppliedLora, component: str = "unet") -> None:
    a, b = dense(one, component), dense(two, component)
    assert a.keys() == b.keys()
    assert a
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-12, atol=1e-12)


def test_layouts_agree(tmp_path: Path) -> None:
    """kohya, SGM order, PEFT, old diffusers and LyCORIS prefixes of one LoRA give the same weights."""
    model = models()["unet"]
    tensors = kohya("lora_unet_", model)
    one = apply(tmp_path, tensors)
    assert one.layer_count == sum(key.endswith(".alpha") for key in tensors) > 20
    assert (one.unhandled, one.warning, warn_on_unhandled(one)) == ((), "", "")
    folded = peft("unet.", tensors, model, "lora_unet_")
    same(one, apply(tmp_path, folded))
    same(
        one,
        apply(
            tmp_path,
            {
                "base_model.model." + key.removeprefix("unet.").replace("A.w", "A.default.w"): value
                for key, value in folded.items()
            },
        ),
    )
    same(
        one,
        apply(
            tmp_path,
            {key.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): value for key, value in folded.items()},
        ),
    )
    old = {
        key.replace(".to_out.0", ".to_out")
        .replace(".to_", ".processor.to_")
        .replace(".lora_A", "_lora.down")
        .replace(".lora_B", "_lora.up"): value
        for key, value in folded.items()
    }
    assert any(".processor.to_out_lora.up.weight" in key for key in old)
    same(one, apply(tmp_path, old))
    same(one, apply(tmp_path, {key.replace("lora_unet_", "lycoris_"): value for key, value in tensors.items()}))


def test_text_encoder_layouts_agree(tmp_path: Path) -> None:
    model = models()["text_encoder"]
    tensors = kohya("lora_te_", model)
    one = apply(tmp_path, tensors)
    folded = peft("text_encoder.", tensors, model, "lora_te_")
    same(one, apply(tmp_path, folded), "text_encoder")
    same(
        one,
        apply(
            tmp_path,
            {
                key.replace("lora_A", "lora_linear_layer.down").replace("lora_B", "lora_linear_layer.up"): value
                for key, value in folded.items()
            },
        ),
        "text_encoder",
    )
    same(
        one,
        apply(tmp_path, {key.replace("lora_te_", "lora_te1_"): value for key, value in tensors.items()}),
        "text_encoder",
    )


def test_strengths_are_separate(tmp_path: Path) -> None:
    tensors = kohya("lora_unet_", models()["unet"]) | kohya("lora_te_", models()["text_encoder"])
    half = apply(tmp_path, tensors, te=0.25, unet=0.5)
    full = apply(tmp_path, tensors)
    for component, strength in (("unet", 0.5), ("text_encoder", 0.25)):
        states = dict(models()[component].named_parameters())
        a, b = dense(half, component), dense(full, component)
        changed = [name for name in b if not torch.equal(b[name], states[name])]
        assert len(changed) > 5
        for name in changed:
            torch.testing.assert_close(a[name] - states[name], strength * (b[name] - states[name]))


def one_layer(**more: Tensor) -> dict[str, Tensor]:
    shape = models()["unet"].mid_block.attentions[0].proj_in.weight.shape
    return {f"{KEY}.lora_down.weight": random(4, shape[1]), f"{KEY}.lora_up.weight": random(shape[0], 4)} | more


def diff(lora: AppliedLora) -> Tensor:
    merged = dense(lora)["mid_block.attentions.0.proj_in.weight"]
    return merged - models()["unet"].mid_block.attentions[0].proj_in.weight


def test_alpha_and_rank(tmp_path: Path) -> None:
    tensors = one_layer()
    product = (tensors[f"{KEY}.lora_up.weight"] @ tensors[f"{KEY}.lora_down.weight"])[..., None, None]
    torch.testing.assert_close(diff(apply(tmp_path, tensors)), product)
    with_alpha = tensors | {f"{KEY}.alpha": alpha(1.0)}
    torch.testing.assert_close(diff(apply(tmp_path, with_alpha)), product / 4)
    cut = tensors[f"{KEY}.lora_up.weight"][:, :2] @ tensors[f"{KEY}.lora_down.weight"][:2]
    torch.testing.assert_close(diff(apply(tmp_path, with_alpha, dyn=2)), cut[..., None, None] / 4)
    torch.testing.assert_close(diff(apply(tmp_path, with_alpha, dyn=99)), product / 4)
    with pytest.raises(CLoRAError, match="dyn=0"):
        apply(tmp_path, tensors, dyn=0)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ('{"unet.lora_alpha": 2, "unet.r": 4}', 0.5),
        ('{"lora_alpha": 2, "r": 4}', 0.5),
        ('{"unet.lora_alpha": 2, "unet.r": 4, "unet.use_rslora": true}', 1.0),
        ('{"unet.lora_alpha": 2, "unet.alpha_pattern": {"mid_block.attentions.0.proj_in": 8}}', 2.0),
        ('{"unet.lora_alpha": 2, "unet.alpha_pattern": {"(((((((": 8}}', 0.5),
        ("{not json", 1.0),
        ("[]", 1.0),
        ('{"unet.lora_alpha": "many"}', 1.0),
    ],
)
def test_alpha_of_diffusers_metadata(tmp_path: Path, config: str, scale: float) -> None:
    tensors = {
        key.replace("lora_down", "lora_A").replace("lora_up", "lora_B"): value for key, value in one_layer().items()
    }
    product = (tensors[f"{KEY}.lora_B.weight"] @ tensors[f"{KEY}.lora_A.weight"])[..., None, None]
    lora = apply(tmp_path, tensors, {"lora_adapter_metadata": config})
    torch.testing.assert_close(diff(lora), scale * product)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_storage_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = {key: value.to(dtype) for key, value in one_layer().items()}
    wide = {key: value.double() for key, value in stored.items()}
    torch.testing.assert_close(diff(apply(tmp_path, stored)), diff(apply(tmp_path, wide)), rtol=1e-12, atol=1e-12)


def test_every_tensor_is_accounted_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extra = {
        "lora_unet_nowhere.lora_down.weight": torch.zeros(1),
        f"{KEY}.odd_thing": torch.zeros(1),
        "bundle_emb.word.string_to_param": torch.zeros(2),
        f"{KEY}.alpha": alpha(4.0),
    }
    lora = apply(tmp_path, one_layer() | extra)
    assert set(lora.unhandled) == {"lora_unet_nowhere.lora_down", f"{KEY}.odd_thing"}
    assert lora.tensor_count == 6
    text = warn_on_unhandled(lora)
    assert text.startswith('LoRA "cat": it carries the embedding "word", which CLoRA cannot apply')
    assert "2 of its 6 tensors are ignored" in text
    assert [record.getMessage() for record in caplog.records] == [text]


def test_a_layer_named_twice_is_changed_once(tmp_path: Path) -> None:
    """Files with both SGM and diffusers names hold everything twice."""
    twice = one_layer() | {
        key.replace(KEY, "lora_unet_middle_block_1_proj_in"): value for key, value in one_layer().items()
    }
    lora = apply(tmp_path, twice)
    same(lora, apply(tmp_path, one_layer()))
    assert len(lora.unhandled) == 2


def no_match() -> dict[str, Tensor]:
    return {f"lora_unet_nowhere.lora_{part}.weight": torch.zeros(2, 2) for part in ("down", "up")}


def test_misfits_are_errors_that_name_both_sides(tmp_path: Path) -> None:
    with pytest.raises(CLoRAError, match=r'"cat" \(cat.safetensors\).*none of its 2 tensors matches a layer'):
        apply(tmp_path, no_match())
    with pytest.raises(CLoRAError, match="made for Flux"):
        apply(tmp_path, {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(1, 2)})
    shapes = {f"{KEY}.lora_down.weight": torch.zeros(4, 5), f"{KEY}.lora_up.weight": torch.zeros(16, 4)}
    with pytest.raises(CLoRAError, match=f"the shapes at {KEY} differ"):
        apply(tmp_path, shapes)
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    sdxl = {f"{key}.lora_down.weight": torch.zeros(4, 2048), f"{key}.lora_up.weight": torch.zeros(16, 4)}
    with pytest.raises(CLoRAError, match="made for SDXL, but a model with text embeddings of width 16 is loaded"):
        apply(tmp_path, sdxl)


@pytest.mark.parametrize(
    ("metadata", "made_for"),
    [
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        ({"ss_base_model_version": "sd_v2_v"}, "SD 2.x"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "SDXL"),
        ({"modelspec.architecture": "flux-1-dev/lora"}, "Flux"),
    ],
)
def test_metadata_of_another_base_model(tmp_path: Path, metadata: dict[str, str], made_for: str) -> None:
    """A file whose tensors all fit is used, whatever its metadata says: merge and resize tools copy metadata."""
    host = {"unet": unet(width=768)}
    with pytest.raises(CLoRAError, match=f"made for {made_for}, but SD 1.x is loaded"):
        apply(tmp_path, one_layer() | no_match(), metadata, host)
    copied = apply(tmp_path, one_layer(), metadata, host)
    assert copied.layer_count == 1
    assert f"its metadata names {made_for}, but all its tensors fit SD 1.x" in copied.warning
    fits = apply(tmp_path, one_layer(), {"ss_base_model_version": "sd_v1"}, host)
    assert (fits.layer_count, fits.warning) == (1, "")


def test_an_inpainting_models_first_layer_may_differ(tmp_path: Path) -> None:
    extra = {
        "lora_unet_conv_in.lora_down.weight": torch.zeros(2, 9, 3, 3),
        "lora_unet_conv_in.lora_up.weight": torch.zeros(8, 2, 1, 1),
    }
    lora = apply(tmp_path, one_layer() | extra)
    assert (lora.layer_count, len(lora.unhandled)) == (1, 2)


def test_a_lora_for_four_channels_fits_an_inpainting_models_first_layer(tmp_path: Path) -> None:
    host = unet()
    host.conv_in = nn.Conv2d(9, host.conv_in.out_channels, 3, padding=1)
    down, up = torch.randn(2, 4, 3, 3), torch.randn(host.conv_in.out_channels, 2, 1, 1)
    lora = apply(
        tmp_path,
        one_layer() | {"lora_unet_conv_in.lora_down.weight": down, "lora_unet_conv_in.lora_up.weight": up},
        components={"unet": host},
    )
    assert lora.unhandled == ()
    loras = RowLoras("unet", host, [[lora]])
    x = torch.randn(1, 9, 8, 8)
    with loras.installed(), loras.rows([0]):
        changed = host.conv_in(x) - functional.conv2d(x, host.conv_in.weight, host.conv_in.bias, padding=1)
    wanted = functional.conv2d(functional.conv2d(x[:, :4], down, padding=1), up)
    torch.testing.assert_close(changed, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "tensors",
    [
        {"lora_down.weight": torch.zeros(()), "lora_up.weight": torch.zeros(())},
        {"lora_down.weight": torch.zeros(0, 16), "lora_up.weight": torch.zeros(16, 0)},
        {"lora_down.weight": torch.zeros(4), "lora_up.weight": torch.zeros(16)},
        {"lora_down.weight": torch.zeros(2, 16), "lora_up.weight": torch.zeros(16, 2), "alpha": torch.zeros(3)},
        {"lora_down.weight": torch.zeros(2, 16), "lora_up.weight": torch.zeros(16, 2), "dora_scale": torch.zeros(5)},
        {"lokr_w1": torch.zeros(3, 3), "lokr_w2": torch.zeros(2, 2)},
        {"lokr_w1": torch.zeros(4, 4), "lokr_w2_a": torch.zeros(4), "lokr_w2_b": torch.zeros(4)},
        {f"hada_w{half}_{side}": torch.zeros(2) for half in (1, 2) for side in "ab"},
        {"oft_blocks": torch.zeros(3, 4, 4)},
        {"oft_blocks": torch.zeros(9, 4, 4, 4)},
        {"diff": torch.zeros(3)},
        {"diff_b": torch.zeros(3)},
        {"weight": torch.zeros(3), "on_input": torch.zeros(())},
        {
            "a1.weight": torch.zeros(3, 3),
            "a2.weight": torch.zeros(3, 3),
            "b1.weight": torch.zeros(3, 3),
            "b2.weight": torch.zeros(3, 3),
        },
    ],
    ids=range(14),
)
def test_inconsistent_shapes_are_errors(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(CLoRAError):
        apply(tmp_path, {f"{KEY}.{key}": value for key, value in tensors.items()})


def test_norms_and_convolutions_of_a_whole_unet(tmp_path: Path) -> None:
    """Every tensor of a LyCORIS file on all layers of an SDXL layout, SGM order, is used."""
    from clora.models.unet_layers import _layout_names, _renamed

    model = unet("sdxl")
    pairs = dict(_layout_names(model))
    tensors: dict[str, Tensor] = {}
    for name, layer in layers_of(model, (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)).items():
        key = "lora_unet_" + _renamed(name, pairs).replace(".", "_")
        if layer.weight.ndim == 1:
            tensors |= {f"{key}.w_norm": torch.ones_like(layer.weight), f"{key}.b_norm": torch.ones_like(layer.weight)}
        else:
            tensors |= {f"{key}.diff": torch.ones_like(layer.weight)}
    lora = apply(tmp_path, tensors, components={"unet": model})
    assert lora.unhandled == ()
    assert lora.layer_count == len({key.split(".")[0] for key in tensors})
