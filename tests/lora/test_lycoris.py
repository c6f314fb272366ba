"""The dense merge of every LyCORIS format equals LyCORIS' own (its modules and its functional forms)."""

from __future__ import annotations

import pytest
import torch
from making import alpha, deltas_on, layers, random, tensors_of
from torch import Tensor, nn

from clora.lora.formats import Layer, kind_of
from clora.lora.stack import Stack

lycoris = pytest.importorskip("lycoris", reason="lycoris_lora is not installed")
functional = pytest.importorskip("lycoris.functional")
modules = pytest.importorskip("lycoris.modules")
KINDS = ("linear", "conv1x1", "conv3x3")
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}  # LyCORIS computes Cayley inverses in float32


def ours(layer: nn.Module, tensors: dict[str, Tensor], strength: float = 1.0) -> Tensor:
    return Stack(Layer(layer, kind_of(layer)), deltas_on(layer, tensors, strength)).dense()[0]


def trained(module: nn.Module, seed: int = 3) -> dict[str, Tensor]:
    """A LyCORIS module with random parameters; what it would save, suffixes as clora.lora.keys makes them."""
    for index, parameter in enumerate(module.parameters()):
        if module.org_module[0] is not parameter:
            parameter.data = random(*parameter.shape, seed=seed + index)
    saved = module.double().custom_state_dict() if hasattr(module, "custom_state_dict") else {}
    if not saved:
        saved = {k: v for k, v in module.state_dict().items() if k in module.weight_list}
    return {key.removesuffix(".weight") if key != "weight" else key: value.detach() for key, value in saved.items()}


@pytest.mark.parametrize(("form", "kind"), [("lora", k) for k in KINDS] + [("mid", "conv3x3")])
def test_locon(form: str, kind: str) -> None:
    layer = layers()[kind]
    tensors = tensors_of(form, layer)
    diff = functional.locon.diff_weight(
        tensors["lora_down"], tensors["lora_up"], tensors.get("lora_mid"), gamma=float(tensors["alpha"]) / 3
    )
    torch.testing.assert_close(
        ours(layer, tensors, 0.6), layer.weight + 0.6 * diff.reshape(layer.weight.shape), **TOLERANCE
    )


@pytest.mark.parametrize(("form", "kind"), [("loha", k) for k in KINDS] + [("loha_tucker", "conv3x3")])
def test_loha(form: str, kind: str) -> None:
    layer = layers()[kind]
    t = tensors_of(form, layer)
    parts = [t[key] for key in ("hada_w1_b", "hada_w1_a", "hada_w2_b", "hada_w2_a")]
    diff = functional.loha.diff_weight(*parts, t.get("hada_t1"), t.get("hada_t2"), gamma=torch.tensor(0.5))
    torch.testing.assert_close(ours(layer, t), layer.weight + diff.reshape(layer.weight.shape), **TOLERANCE)


@pytest.mark.parametrize(
    ("form", "kind"),
    [(f, k) for f in ("lokr_whole", "lokr_low", "lokr_both") for k in KINDS] + [("lokr_tucker", "conv3x3")],
)
def test_lokr(form: str, kind: str) -> None:
    layer = layers()[kind]
    t = tensors_of(form, layer)
    keys = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
    scale = 1.0 if form == "lokr_whole" else 0.5  # both halves whole: no rank, so no scale
    shaped = dict(t)
    if kind != "linear" and "lokr_w2_b" in t and form != "lokr_tucker":
        shaped["lokr_w2_b"] = t["lokr_w2_b"].reshape(2, layer.weight.shape[1] // 2, *layer.weight.shape[2:])
    diff = functional.lokr.kron_weight(*(shaped.get(key) for key in keys), scale=scale)
    torch.testing.assert_close(ours(layer, t, 0.5), layer.weight + 0.5 * diff.reshape(layer.weight.shape), **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["GLoRAModule", "IA3Module", "IA3Module_in", "FullModule"])
def test_modules(name: str, kind: str) -> None:
    layer = layers()[kind]
    options = {"train_on_input": True} if name.endswith("_in") else {}
    module = getattr(modules, name.removesuffix("_in"))("m", layer, lora_dim=4, alpha=2, **options)
    tensors = trained(module)
    if name == "FullModule":
        tensors = {"diff": module.weight.data, "diff_b": module.bias.data}
    want, bias = module.get_merged_weight(multiplier=0.7)
    torch.testing.assert_close(ours(layer, tensors, 0.7), want.detach().double(), **TOLERANCE)
    if bias is not None:
        stack = Stack(Layer(layer, kind_of(layer)), deltas_on(layer, tensors, 0.7))
        torch.testing.assert_close(stack.dense()[1], bias.detach().double(), **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [0.0, 0.01])
def test_diag_oft(kind: str, limit: float) -> None:
    layer = layers()[kind]
    tensors = {"oft_blocks": random(4, 4, 4), "alpha": alpha(limit)}
    module = modules.DiagOFTModule("m", layer, lora_dim=4, constraint=limit)
    module.oft_blocks.data = tensors["oft_blocks"].float()
    want = module.float().get_merged_weight(multiplier=0.7)[0].detach().double()
    torch.testing.assert_close(ours(layer, tensors, 0.7), want, **TOLERANCE)
    assert (ours(layer, tensors) - layer.weight).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_rescaled_diag_oft_and_boft(kind: str) -> None:
    layer = layers()[kind]
    for form, weigh in (("oft_rescaled", functional.diag_oft.diff_weight), ("boft", functional.boft.diff_weight)):
        tensors = tensors_of(form, layer)
        diff = weigh(layer.weight.float(), tensors["oft_blocks"].float(), tensors["rescale"].float(), constraint=0)
        torch.testing.assert_close(ours(layer, tensors), layer.weight + diff.double(), **TOLERANCE)
    tensors = tensors_of("boft", layer)
    del tensors["rescale"]
    blocks = tensors["oft_blocks"].float()
    diff = functional.boft.diff_weight(layer.weight.float(), blocks, None, constraint=0, scale=0.4)
    torch.testing.assert_close(ours(layer, tensors, 0.4), layer.weight + diff.double(), **TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["dora_out", "dora_in"])
def test_dora(form: str, kind: str) -> None:
    layer = layers()[kind]
    tensors = tensors_of(form, layer)
    plain = {key: value for key, value in tensors.items() if key != "dora_scale"}
    full = ours(layer, plain)
    want = functional.general.weight_decompose(full, tensors["dora_scale"], 1, form == "dora_out")
    torch.testing.assert_close(ours(layer, tensors), want, **TOLERANCE)
    if form == "dora_in":  # the functional form with a strength has only this norm
        want = functional.general.apply_dora_scale(layer.weight, full - layer.weight, tensors["dora_scale"], 0.3)
        torch.testing.assert_close(ours(layer, tensors, 0.3), want, **TOLERANCE)


@pytest.mark.parametrize("kind", ["linear", "conv1x1"])
@pytest.mark.parametrize("sig_type", ["principal", "middle", "last"])
def test_tlora(sig_type: str, kind: str) -> None:
    """LyCORIS saves no start: it is made again from the host's weight."""
    layer = layers()[kind].float()
    module = modules.TLoraModule("m", layer, lora_dim=4, alpha=2, sig_type=sig_type)
    for index, parameter in enumerate((module.q_layer.weight, module.p_layer.weight, module.lambda_layer)):
        parameter.data += random(*parameter.shape, seed=index, scale=0.1).float()
    tensors = {key.removesuffix(".weight"): value.detach() for key, value in module.custom_state_dict().items()}
    stack = Stack(Layer(layer, kind_of(layer)), deltas_on(layer, tensors, 0.7, {"sig_type": sig_type}))
    want = module.get_merged_weight(multiplier=0.7)[0].detach()
    torch.testing.assert_close(stack.dense()[0], want, rtol=1e-5, atol=1e-5)
    assert (want - layer.weight).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["layer_norm", "group_norm"])
def test_norm(kind: str) -> None:
    layer = layers()[kind]
    module = modules.NormModule("m", layer)
    tensors = trained(module)
    assert set(tensors) == {"w_norm", "b_norm"}
    weight, bias = module.get_merged_weight(multiplier=0.7)
    stack = Stack(Layer(layer, "norm"), deltas_on(layer, tensors, 0.7))
    for got, want in zip(stack.dense(), (weight, bias), strict=True):
        torch.testing.assert_close(got, want.detach(), **TOLERANCE)
