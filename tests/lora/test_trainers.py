"""Layouts of trainers that no library here can save, against the formulas that their code has."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from making import alpha, random
from models import unet
from safetensors.torch import save_file
from torch import Tensor, nn

from clora.lora.file import read_lora
from clora.lora.resolve import AppliedLora
from clora.lora.rows import RowLoras
from clora.models.lora import apply_lora

pytest.importorskip("diffusers", reason="diffusers is not installed")
NAME = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
FLAT = NAME.replace(".", "_")
KERNEL = "mid_block.resnets.0.conv1"


def read(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> AppliedLora:
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "cat.safetensors", metadata)
    return apply_lora(read_lora(folder / "cat.safetensors"), {"unet": HOST}, te=1.0, unet=1.0)


HOST = unet("small")


def merged(lora: AppliedLora, name: str = NAME) -> Tensor:
    assert lora.unhandled == ()
    return RowLoras("unet", HOST, [[lora]]).dense(0)[f"{name}.weight"]


def weight(name: str = NAME) -> Tensor:
    return HOST.get_submodule(name).weight


def low_rank(prefix: str, down: str = "lora_down.weight", up: str = "lora_up.weight") -> dict[str, Tensor]:
    return {f"{prefix}.{down}": random(3, weight().shape[1]), f"{prefix}.{up}": random(weight().shape[0], 3)}


def product(tensors: dict[str, Tensor]) -> Tensor:
    down, up = sorted(tensors.values(), key=lambda tensor: tensor.shape[0] != 3)
    return up @ down


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_kohya_oft(tmp_path: Path, limit: float) -> None:
    """sd-scripts' networks.oft: `oft_unet_*`, W' = R^T W in blocks, the skew matrices' norm at most alpha * out."""
    width = weight().shape[0]
    blocks = random(4, width // 4, width // 4)
    lora = read(tmp_path, {f"oft_unet_{FLAT}.oft_blocks": blocks, f"oft_unet_{FLAT}.alpha": alpha(limit)})
    skew = blocks - blocks.transpose(1, 2)
    skew = skew * min(1.0, limit * width / float(skew.norm()))
    eye = torch.eye(width // 4, dtype=torch.float64)
    rotation = torch.block_diag(*((eye + q) @ torch.linalg.inv(eye - q) for q in skew))
    torch.testing.assert_close(merged(lora), torch.einsum("oi,op->pi", weight(), rotation), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
@pytest.mark.parametrize("scaled", [False, True])
def test_onetrainer_oft(tmp_path: Path, layout: str, scaled: bool) -> None:
    """`oft_R` without PEFT's settings: five terms of Neumann's series; a kernel's weight turns the other way round."""
    tensors = {}
    for name in (NAME, KERNEL):
        key = f"lora_unet_{name.replace('.', '_')}" if layout == "kohya" else f"unet.{name}"
        tensors[f"{key}.oft_R.weight"] = random(weight(name).flatten(1).shape[1] // 4, 6, scale=0.05)
        if scaled:
            tensors[f"{key}.oft_R.scaled_oft"] = torch.tensor(True)
    lora = read(tmp_path, tensors)
    for name, vectors in zip((NAME, KERNEL), (v for v in tensors.values() if v.ndim == 2), strict=True):
        skew = torch.zeros(len(vectors), 4, 4, dtype=torch.float64)
        rows, columns = torch.triu_indices(4, 4, 1)
        skew[:, rows, columns] = vectors / (2 * math.sqrt(3) if scaled else 1)
        q = skew - skew.transpose(1, 2)
        rotation = torch.block_diag(
            *(torch.eye(4, dtype=torch.float64) + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q)
        )
        rotation = rotation if name == KERNEL else rotation.T
        want = (weight(name).flatten(1) @ rotation).reshape(weight(name).shape)
        torch.testing.assert_close(merged(lora, name), want, rtol=1e-9, atol=1e-9)


def test_scale_is_used_instead_of_alpha(tmp_path: Path) -> None:
    """A1111's reader: `scale` is the factor itself."""
    tensors = low_rank(f"lora_unet_{FLAT}")
    scaled = tensors | {f"lora_unet_{FLAT}.alpha": alpha(9.0), f"lora_unet_{FLAT}.scale": alpha(0.25)}
    torch.testing.assert_close(merged(read(tmp_path, scaled)), weight() + 0.25 * product(tensors))


def test_bias_is_the_rest_of_the_weight(tmp_path: Path) -> None:
    """A1111's reader: `bias` is added to up @ down, before the scale. LyCORIS' extraction saves it sparse."""
    tensors = low_rank(f"lora_unet_{FLAT}")
    rest = random(*weight().shape, seed=4) * (random(*weight().shape, seed=5) > 0.5)
    number = {f"lora_unet_{FLAT}.alpha": alpha(1.5)}
    dense = read(tmp_path, tensors | number | {f"lora_unet_{FLAT}.bias": rest})
    torch.testing.assert_close(merged(dense), weight() + 0.5 * (product(tensors) + rest), rtol=1e-6, atol=1e-6)
    coordinates = rest.to_sparse().coalesce()
    sparse = {
        f"lora_unet_{FLAT}.bias_indices": coordinates.indices().to(torch.int16),
        f"lora_unet_{FLAT}.bias_values": coordinates.values(),
        f"lora_unet_{FLAT}.bias_size": torch.tensor(rest.shape).to(torch.int16),
    }
    torch.testing.assert_close(merged(read(tmp_path, tensors | number | sparse)), merged(dense))


@pytest.mark.parametrize(
    "key",
    [
        f"lora_unet_{FLAT}.dora_scale",
        f"lora_unet_{FLAT}.lora_magnitude_vector",
        f"lora_unet_{FLAT}.lora_magnitude_vector.weight",
        f"lora_unet_{FLAT.removesuffix('_to_q')}.to_q.lora_magnitude_vector",
        f"lora_unet_{FLAT.removesuffix('_to_q')}.to_q.lora_magnitude_vector.default.weight",
        f"unet.{NAME}.lora_magnitude_vector",
        f"unet.{NAME}.dora_scale",
    ],
)
def test_half_converted_dora(tmp_path: Path, key: str) -> None:
    """A magnitude under another spelling of the layer's name belongs to the same module."""
    tensors, magnitude = low_rank(f"lora_unet_{FLAT}"), 1 + random(weight().shape[0])
    full = weight() + product(tensors)
    want = magnitude[:, None] * full / full.norm(dim=1, keepdim=True)
    stored = magnitude[:, None] if key.endswith("dora_scale") else magnitude
    torch.testing.assert_close(merged(read(tmp_path, tensors | {key: stored})), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("lora_A.weight", "lora_up.weight"),
        ("lora_down", "lora_up"),
        ("lora_A", "lora_B"),
        ("lora_A.cat.weight", "lora_B.cat.weight"),
    ],
)
def test_mixed_and_bare_suffixes(tmp_path: Path, one: str, two: str) -> None:
    tensors = low_rank(f"lora_unet_{FLAT}", one, two)
    torch.testing.assert_close(merged(read(tmp_path, tensors)), weight() + product(tensors))


def test_alpha_under_another_spelling(tmp_path: Path) -> None:
    tensors = low_rank(f"unet.{NAME}", "lora_A.weight", "lora_B.weight")
    lora = read(tmp_path, tensors | {f"lora_unet_{FLAT}.alpha": alpha(1.5)})
    torch.testing.assert_close(merged(lora), weight() + 0.5 * product(tensors))


def test_tlora_of_its_authors(tmp_path: Path) -> None:
    """`save_attn_procs`: the difference of two products, at all ranks."""
    key, width = f"{NAME.removesuffix('to_q')}processor.to_q_lora", weight().shape[0]
    tensors = {}
    for seed, (q, p, values) in enumerate(
        (("q_layer", "p_layer", "lambda_layer"), ("base_q", "base_p", "base_lambda"))
    ):
        tensors |= {
            f"{key}.{q}.weight": random(3, weight().shape[1], seed=seed),
            f"{key}.{values}": random(1, 3, seed=seed),
        }
        tensors[f"{key}.{p}.weight"] = random(width, 3, seed=seed)
    lora = read(tmp_path, tensors)
    one, two = (
        (tensors[f"{key}.{p}.weight"] * tensors[f"{key}.{v}"]) @ tensors[f"{key}.{q}.weight"]
        for q, p, v in (("q_layer", "p_layer", "lambda_layer"), ("base_q", "base_p", "base_lambda"))
    )
    torch.testing.assert_close(merged(lora), weight() + one - two, rtol=1e-5, atol=1e-5)
    assert (
        lora.warning == 'LoRA "cat": it is a T-LoRA (q_layer, p_layer), which is used with all its ranks at every step.'
    )


def test_tlora_of_lycoris(tmp_path: Path) -> None:
    """Without the start, what the weight's first singular vectors give is taken away; its warning says so."""
    tensors = {
        f"lycoris_{FLAT}.q_layer.weight": random(3, weight().shape[1]),
        f"lycoris_{FLAT}.p_layer.weight": random(weight().shape[0], 3),
        f"lycoris_{FLAT}.lambda_layer": torch.zeros(1, 3),
        f"lycoris_{FLAT}.alpha": alpha(3.0),
    }
    for sig_type, chosen in (("principal", slice(0, 3)), ("last", slice(-3, None))):
        lora = read(tmp_path, tensors, {"ss_network_args": f'{{"algo": "tlora", "sig_type": "{sig_type}"}}'})
        u, s, vh = torch.linalg.svd(weight(), full_matrices=False)
        start = (u[:, chosen] * s[chosen]) @ vh[chosen]
        torch.testing.assert_close(merged(lora), weight() - start, rtol=1e-5, atol=1e-5)
        assert "what it started from is taken from the checkpoint's weights" in lora.warning


def test_lora_fa_is_a_plain_lora(tmp_path: Path) -> None:
    """LoRA-FA freezes `lora_down` while it trains; its file is a LoRA's."""
    tensors = low_rank(f"lora_unet_{FLAT}")
    lora = read(tmp_path, tensors, {"ss_network_module": "networks.lora_fa"})
    torch.testing.assert_close(merged(lora), weight() + product(tensors))


def test_reshape_weight(tmp_path: Path) -> None:
    """The shape that a tool says the weight had: the same is nothing to do."""
    tensors = low_rank(f"lora_unet_{FLAT}")
    lora = read(tmp_path, tensors | {f"lora_unet_{FLAT}.reshape_weight": torch.tensor(weight().shape)})
    torch.testing.assert_close(merged(lora), weight() + product(tensors))


@pytest.mark.parametrize(
    ("keys", "counts"),
    [
        (("clip_l",), {"text_encoder": 2}),
        (("clip_l", "clip_g", "clip_l_out", "clip_g_out"), {"text_encoder": 2, "text_encoder_2": 2}),
        (("string_to_param.*",), {"text_encoder": 2}),
        (("emb_params",), {"text_encoder": 2}),
    ],
)
def test_bundled_embeddings_are_read(tmp_path: Path, keys: tuple[str, ...], counts: dict[str, int]) -> None:
    """OneTrainer puts textual inversions into the LoRA's file, the WebUI's own tools too."""
    tensors = low_rank(f"lora_unet_{FLAT}")
    bundled = {f"bundle_emb.{name}.{key}": torch.ones(2, 16) for name in ("sks_cat", "my style.v2") for key in keys}
    lora = read(tmp_path, tensors | bundled)
    torch.testing.assert_close(merged(lora), weight() + product(tensors))
    assert lora.warning == ""
    assert sorted(one.name for one in lora.embeddings) == ["my style.v2", "sks_cat"]
    assert all({key: len(own) for key, own in one.vectors.items()} == counts for one in lora.embeddings)


@pytest.mark.parametrize("bundled", [{"t5": (2, 16)}, {"clip_l": (2, 16), "clip_g": (3, 16)}, {"clip_l_out": (2, 16)}])
def test_bundled_embeddings_that_cannot_be_applied_are_named(
    tmp_path: Path, bundled: dict[str, tuple[int, int]]
) -> None:
    tensors = {f"bundle_emb.sks_cat.{key}": torch.ones(shape) for key, shape in bundled.items()}
    lora = read(tmp_path, low_rank(f"lora_unet_{FLAT}") | tensors)
    assert lora.embeddings == ()
    assert lora.warning.startswith('LoRA "cat": it carries the embedding "sks_cat", which CLoRA cannot apply')


def test_every_row_has_its_own_layout(tmp_path: Path) -> None:
    """A batch in which each row has a file of another layout: row i is the UNet with that file merged."""
    from models import merged as run_merged
    from models import run_unet

    width = weight().shape[0]
    files = [
        low_rank(f"lora_unet_{FLAT}") | {f"lora_unet_{FLAT}.scale": alpha(0.5)},
        {f"oft_unet_{FLAT}.oft_blocks": random(4, width // 4, width // 4)},
        {f"unet.{KERNEL}.oft_R.weight": random(weight(KERNEL).flatten(1).shape[1] // 4, 6, scale=0.1)},
        low_rank(f"lora_unet_{FLAT}") | {f"unet.{NAME}.lora_magnitude_vector": 1 + random(width)},
    ]
    sets: list[list[AppliedLora]] = [[], *([read(tmp_path, tensors)] for tensors in files)]
    loras = RowLoras("unet", HOST, sets)
    with torch.no_grad(), loras.installed(), loras.rows(range(len(sets))):
        out = run_unet(HOST, len(sets))
    for index in range(len(sets)):
        with torch.no_grad():
            want = run_merged(HOST, loras.dense(index), lambda model: run_unet(model, len(sets)))
        torch.testing.assert_close(out[index], want[index], rtol=1e-9, atol=1e-9)


def test_the_hosts_modules_are_left_as_they_were() -> None:
    assert isinstance(HOST.get_submodule(NAME), nn.Linear)
    assert not HOST.get_submodule(NAME)._forward_hooks


def test_sdxl_files_without_metadata(tmp_path: Path) -> None:
    """LoHa and OFT in SGM's order: every tensor is used."""
    from clora.models.unet_layers import _layout_names, _renamed

    model = unet("sdxl")
    pairs = dict(_layout_names(model))
    names = [name for name, _ in model.named_modules() if name.endswith(("attn1.to_q", "attn2.to_k"))]
    loha, oft = {}, {}
    for name in names:
        flat = _renamed(name, pairs).replace(".", "_")
        out, features = model.get_submodule(name).weight.shape
        oft[f"oft_unet_{flat}.oft_blocks"] = random(2, out // 2, out // 2)
        for half in "12":
            loha[f"lora_unet_{flat}.hada_w{half}_a"] = random(out, 2)
            loha[f"lora_unet_{flat}.hada_w{half}_b"] = random(2, features)
    for tensors in (loha, oft):
        save_file(tensors, tmp_path / "cat.safetensors")
        lora = apply_lora(read_lora(tmp_path / "cat.safetensors"), {"unet": model}, te=1.0, unet=1.0)
        assert (lora.layer_count, lora.warning) == (len(names), "")
        assert len(names) > 20
