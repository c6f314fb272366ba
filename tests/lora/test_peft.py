"""Files that PEFT saves, method by method: the weights are those of PEFT's own merge, and rows equal merges.

PEFT writes `adapter_model.safetensors` and, beside it, `adapter_config.json`, which holds the scale.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from models import unet
from safetensors.torch import save_file
from torch import Tensor, nn

from clora.errors import CLoRAError
from clora.lora.file import read_lora
from clora.lora.resolve import AppliedLora
from clora.lora.rows import RowLoras
from clora.models.lora import apply_lora

peft = pytest.importorskip("peft", reason="peft is not installed")
pytest.importorskip("diffusers", reason="diffusers is not installed")
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}  # PEFT computes in float32
LINEAR = ["to_q", "to_v", "to_out.0", "ff.net.2"]
ALL = [*LINEAR, "conv1", "proj_in"]


def host() -> nn.Module:
    return unet("small").float()


def saved(folder: Path, config: object, *, keep: tuple[str, ...] = (), amount: float = 0.2) -> dict[str, Tensor]:
    """Save an adapter with random parameters; return the weights and biases of PEFT's own merge that it changed."""
    model = host()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapped = peft.get_peft_model(model, config)
    torch.manual_seed(7)
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad and not any(part in name for part in keep):
            parameter.data = parameter.data + amount * torch.randn_like(parameter)
    wrapped.save_pretrained(folder)
    merged = wrapped.merge_and_unload().state_dict()
    return {name: merged[name] for name in before if not torch.allclose(merged[name], before[name])}


def read(folder: Path, model: nn.Module, name: str = "adapter_model") -> AppliedLora:
    return apply_lora(read_lora(folder / f"{name}.safetensors"), {"unet": model}, te=1.0, unet=1.0)


def same_weights(lora: AppliedLora, model: nn.Module, want: dict[str, Tensor]) -> None:
    got = RowLoras("unet", model, [[lora]]).dense(0)
    states = dict(model.named_parameters())
    changed = {
        name: value for name, value in got.items() if name not in states or not torch.allclose(value, states[name])
    }
    assert changed.keys() == want.keys()
    assert len(want) > 3
    for name, value in want.items():
        torch.testing.assert_close(changed[name], value, msg=lambda text, name=name: f"{name}: {text}", **TOLERANCE)


def lora(**options: object) -> object:
    return peft.LoraConfig(**{"r": 4, "target_modules": ALL, "init_lora_weights": False, **options})


CONFIGS = {
    "lora": lambda: lora(lora_alpha=8),
    "rslora": lambda: lora(lora_alpha=8, use_rslora=True),
    "patterns": lambda: lora(
        lora_alpha=8,
        rank_pattern={"to_q": 2, "mid_block.*conv1": 3},
        alpha_pattern={"^mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 3, r"down_blocks\.\d+.*to_v": 5},
    ),
    "dora": lambda: lora(lora_alpha=8, use_dora=True),
    "lora_bias": lambda: lora(lora_alpha=8, lora_bias=True, target_modules=["to_out.0", "conv1", "proj_in"]),
    "bias_lora_only": lambda: lora(lora_alpha=8, bias="lora_only"),
    "modules_to_save": lambda: lora(lora_alpha=8, target_modules=LINEAR, modules_to_save=["conv_in", "norm1", "conv2"]),
    "bias_all": lambda: lora(lora_alpha=8, bias="all"),
    "adalora": lambda: peft.AdaLoraConfig(
        target_modules=ALL, total_step=10, init_r=4, target_r=2, lora_alpha=6, init_lora_weights=False
    ),
    "loha": lambda: peft.LoHaConfig(r=4, alpha=2, target_modules=ALL, init_weights=False),
    "loha_conv": lambda: peft.LoHaConfig(
        r=4, alpha=2, target_modules=ALL, init_weights=False, use_effective_conv2d=True
    ),
    "lokr": lambda: peft.LoKrConfig(r=2, alpha=6, target_modules=ALL, init_weights=False, decompose_both=True),
    "lokr_whole": lambda: peft.LoKrConfig(r=64, alpha=32, target_modules=ALL, init_weights=False),
    "oft": lambda: peft.OFTConfig(oft_block_size=4, target_modules=ALL, use_cayley_neumann=False),
    "oft_neumann": lambda: peft.OFTConfig(oft_block_size=4, target_modules=LINEAR, num_cayley_neumann_terms=4),
    "oft_shared": lambda: peft.OFTConfig(oft_block_size=4, target_modules=LINEAR, block_share=True),
    "coft": lambda: peft.OFTConfig(oft_block_size=4, target_modules=LINEAR, coft=True, eps=0.3),
    "boft": lambda: peft.BOFTConfig(boft_block_size=4, target_modules=ALL),
    "ia3": lambda: peft.IA3Config(target_modules=ALL, feedforward_modules=["ff.net.2", "conv1"]),
    "hra": lambda: peft.HRAConfig(r=3, target_modules=ALL),
    "hra_gs": lambda: peft.HRAConfig(r=3, target_modules=ALL, apply_GS=True, init_weights=False),
    "vera": lambda: peft.VeraConfig(r=4, target_modules=LINEAR),
    "vera_seed": lambda: peft.VeraConfig(r=4, target_modules=LINEAR, save_projection=False, projection_prng_key=5),
    "pissa": lambda: lora(lora_alpha=8, init_lora_weights="pissa", target_modules=LINEAR),
    "olora": lambda: lora(lora_alpha=8, init_lora_weights="olora", target_modules=LINEAR),
}
SMALL = {"oft": 0.05, "oft_neumann": 0.05, "oft_shared": 0.05, "hra": 0.3, "hra_gs": 0.3}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", CONFIGS)
def test_a_file_of_peft(tmp_path: Path, method: str) -> None:
    want = saved(tmp_path, CONFIGS[method](), amount=SMALL.get(method, 0.2))
    model = host()
    lora = read(tmp_path, model)
    assert lora.unhandled == ()
    assert lora.warning == ""
    same_weights(lora, model, want)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", CONFIGS)
def test_rows_of_a_file_of_peft(tmp_path: Path, method: str) -> None:
    """Row i of a mixed batch equals the UNet with that LoRA alone merged densely, at a strength other than 1 too."""
    from models import merged, run_unet

    saved(tmp_path, CONFIGS[method](), amount=SMALL.get(method, 0.2))
    model = unet("small")
    file = read_lora(tmp_path / "adapter_model.safetensors")
    half, full = (apply_lora(file, {"unet": model}, te=1.0, unet=strength) for strength in (0.6, 1.0))
    loras = RowLoras("unet", model, [[], [full], [half], [half, full]])
    rows = [1, 0, 2, 3]
    with torch.no_grad(), loras.installed(), loras.rows(rows):
        out = run_unet(model, len(rows))
    for row, index in enumerate(rows):
        with torch.no_grad():
            want = merged(model, loras.dense(index), lambda model: run_unet(model, len(rows)))
        torch.testing.assert_close(out[row], want[row], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("limit", [None, 1e-4])
@pytest.mark.parametrize("turns", ["inputs", "outputs"])
def test_oft_of_peft_before_0_15(tmp_path: Path, turns: str, limit: float | None, shared: bool) -> None:
    """`oft_r`, by the formulas of PEFT 0.14 (with `oft_s`: W' = s W R^T) and 0.11 (without: W' = R^T W)."""
    model, size, tensors, want = host(), 4, dict[str, Tensor](), dict[str, Tensor]()
    torch.manual_seed(7)
    for name, layer in model.named_modules():
        if name.endswith(("attn1.to_q", "conv1", "proj_in")):
            flat = layer.weight.detach().flatten(1)
            features = flat.shape[1 if turns == "inputs" else 0]
            blocks = 0.3 * torch.randn(1 if shared else features // size, size, size)
            tensors[f"base_model.model.{name}.oft_r"] = blocks
            if limit is not None:
                width = -(-len(flat) // (features // size))
                most = limit * width**2 / len(blocks) ** 0.5
                blocks = blocks * (most / blocks.flatten(1).norm(dim=1)).clamp(max=1)[:, None, None]
            skew, eye = 0.5 * (blocks - blocks.transpose(1, 2)), torch.eye(size)
            turned = [(eye - one) @ torch.linalg.inv(eye + one) for one in skew]
            rotation = torch.block_diag(*(turned * (features // size) if shared else turned))
            if turns == "inputs":
                tensors[f"base_model.model.{name}.oft_s"] = gain = 1 + 0.1 * torch.randn(len(flat), 1)
                changed = gain * (flat @ rotation.T)
            else:
                changed = rotation.T @ flat
            want[f"{name}.weight"] = changed.reshape(layer.weight.shape)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    settings = {"peft_type": "OFT", "coft": limit is not None, "eps": limit}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    lora = read(tmp_path, model)
    assert lora.warning == ""
    same_weights(lora, model, want)


def test_bare_weights_are_a_lora_of_peft_only(tmp_path: Path) -> None:
    weight = host().get_submodule("conv_in").weight.detach() + 1
    for name, prefix in (("peft", "base_model.model."), ("other", "unet.")):
        save_file({f"{prefix}conv_in.weight": weight}, tmp_path / f"{name}.safetensors")
    assert read(tmp_path, host(), "peft").layer_count == 1
    with pytest.raises(CLoRAError):
        read(tmp_path, host(), "other")


def test_butterfly_stages_of_boft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one stage needs PEFT's CUDA extension, which only joins blocks: torch does it here."""
    from peft.tuners.boft import layer

    class Joined:
        @staticmethod
        def apply(blocks: Tensor) -> Tensor:
            return torch.stack([torch.block_diag(*stage) for stage in blocks])

    monkeypatch.setattr(layer, "get_fbd_cuda", lambda: True)
    monkeypatch.setattr(layer, "FastBlockDiag", Joined)
    config = peft.BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=2, target_modules=LINEAR)
    want = saved(tmp_path, config)
    model = host()
    same_weights(read(tmp_path, model), model, want)


@pytest.mark.filterwarnings("ignore")
def test_pissa_converted_by_peft(tmp_path: Path) -> None:
    """PEFT's own conversion writes a plain LoRA of twice the rank."""
    model = host()
    wrapped = peft.get_peft_model(model, CONFIGS["pissa"]())
    wrapped.save_pretrained(tmp_path / "start")
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    wrapped.peft_config["default"].init_lora_weights = True
    wrapped.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    merged = wrapped.merge_and_unload().state_dict()
    plain = host()
    lora = read(tmp_path / "plain", plain)
    got = RowLoras("unet", plain, [[lora]]).dense(0)
    for name, value in got.items():
        torch.testing.assert_close(value, merged[name], **TOLERANCE)


def test_the_settings_belong_to_the_file_beside_them(tmp_path: Path) -> None:
    """A renamed file is read with them if it is alone; without them the scale is 1, and a warning tells why."""
    want = saved(tmp_path / "a", CONFIGS["lora"]())
    model = host()
    renamed = tmp_path / "b"
    renamed.mkdir()
    shutil.copy(tmp_path / "a" / "adapter_model.safetensors", renamed / "cat.safetensors")
    assert "its scale is in PEFT's adapter_config.json" in read(renamed, model, "cat").warning
    shutil.copy(tmp_path / "a" / "adapter_config.json", renamed)
    same_weights(read(renamed, model, "cat"), model, want)
    shutil.copy(tmp_path / "a" / "adapter_model.safetensors", renamed / "dog.safetensors")
    assert "its scale is in PEFT's adapter_config.json" in read(renamed, model, "cat").warning


@pytest.mark.parametrize("content", ["", "[]", "{not json", '{"r": "many", "lora_alpha": null}', "[" * 9999])
def test_damaged_settings_are_no_error(tmp_path: Path, content: str) -> None:
    saved(tmp_path, CONFIGS["lora"]())
    (tmp_path / "adapter_config.json").write_text(content)
    assert read(tmp_path, host()).layer_count > 3


@pytest.mark.filterwarnings("ignore")
def test_an_unknown_method_is_refused_by_its_name(tmp_path: Path) -> None:
    saved(tmp_path, peft.FourierFTConfig(n_frequency=10, target_modules=LINEAR))
    with pytest.raises(CLoRAError, match=r"cannot read, FOURIERFT of PEFT.*fourierft_spectrum") as error:
        read(tmp_path, host())
    assert "made for" not in str(error.value)


def test_a_start_that_the_file_does_not_show(tmp_path: Path) -> None:
    saved(tmp_path, CONFIGS["lora"]())
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "init_lora_weights": "corda"}))
    assert "a base model that CorDA had changed" in read(tmp_path, host()).warning
