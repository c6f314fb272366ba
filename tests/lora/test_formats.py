"""Every format on every kind of layer: the activation form equals the dense merge, row by row, with its gradient."""

from __future__ import annotations

import pytest
import torch
from making import FORMS, applied, deltas_on, fits, input_for, layers, random, tensors_of
from torch import nn
from torch.func import functional_call

from clora.lora.blend import Blend
from clora.lora.formats import Layer
from clora.lora.rows import RowLoras
from clora.lora.stack import Stack

LINEAR = ("linear", "linear_no_bias")
NOT_LINEAR = {"mid", "loha_tucker", "lokr_tucker"}
CASES = [
    (form, kind)
    for kind in layers()
    if not kind.endswith("norm")
    for form in FORMS
    if not (kind in LINEAR and form in NOT_LINEAR) and fits(form, kind)
]
CASES += [("norm", kind) for kind in layers() if kind.endswith("norm")]


def merged(loras: RowLoras, index: int, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The model with set `index` merged; a bias on a layer without one is added by hand."""
    dense = loras.dense(index)
    extra = dense.pop("0.bias", None) if model[0].bias is None else None
    out = functional_call(model, dense, x)
    return out if extra is None else out + extra


@pytest.mark.parametrize(("form", "kind"), CASES, ids=[f"{form}-{kind}" for form, kind in CASES])
def test_rows_equal_the_dense_merge(form: str, kind: str) -> None:
    layer = layers()[kind]
    model = nn.Sequential(layer)
    partner = "norm" if form == "norm" else "lora" if "oft" in form else "oft"
    one = applied("unet", {layer: deltas_on(layer, tensors_of(form, layer), 0.7)})
    two = applied("unet", {layer: deltas_on(layer, tensors_of(partner, layer, seed=50), -0.4)})
    loras = RowLoras("unet", model, [[], [one], [one, two], [two, one]])
    rows = [1, 0, 2, 2, 3, 1, 0]
    x = input_for(layer, len(rows)).requires_grad_()
    with loras.installed(), loras.rows(rows):
        out = model(x)
    weight = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((out * weight).sum(), x)
    base = model(x)
    for row, index in enumerate(rows):
        reference = merged(loras, index, model, x)[row]
        torch.testing.assert_close(out[row], reference, rtol=1e-10, atol=1e-10)
        (wanted,) = torch.autograd.grad((reference * weight[row]).sum(), x)
        torch.testing.assert_close(gradient[row], wanted[row], rtol=1e-10, atol=1e-10)
        assert torch.equal(out[row], base[row]) == (index == 0)


@pytest.mark.parametrize(("form", "kind"), [case for case in CASES if case[1] in ("linear", "conv3x3", "group_norm")])
def test_two_loras_of_one_format_on_one_layer(form: str, kind: str) -> None:
    """What the second one takes from the weight (DoRA's norm), it takes from the weight with the first one on."""
    layer = layers()[kind]
    model = nn.Sequential(layer)
    one = applied("unet", {layer: deltas_on(layer, tensors_of(form, layer), 0.7)})
    two = applied("unet", {layer: deltas_on(layer, tensors_of(form, layer, seed=50), -0.4)})
    loras = RowLoras("unet", model, [[one, two], [two, one]])
    x = input_for(layer, 3)
    with loras.installed(), loras.rows([0, 1, 0]):
        out = model(x)
    for row, index in enumerate([0, 1, 0]):
        torch.testing.assert_close(out[row], merged(loras, index, model, x)[row], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", [form for form in FORMS if fits(form, "conv3x3")])
def test_strength_zero_is_off(form: str) -> None:
    """Also in the dense form: the strength interpolates from the unchanged weight."""
    layer = layers()["conv3x3"]
    weight, bias = Stack(Layer(layer, "conv"), deltas_on(layer, tensors_of(form, layer), 0.0)).dense()
    torch.testing.assert_close(weight, layer.weight, rtol=0, atol=1e-14)
    torch.testing.assert_close(bias, layer.bias, rtol=0, atol=0)
    off = RowLoras("unet", layer, [[applied("unet", {layer: deltas_on(layer, tensors_of(form, layer), 0.0)})]])
    assert off.layer_count == 0


def test_loha_uses_low_rank_if_that_costs_less() -> None:
    layer = layers()["conv3x3"]
    (small,), (large,) = deltas_on(layer, tensors_of("loha", layer)), deltas_on(layer, tensors_of("loha_dense", layer))
    assert (small.on_activations, large.on_activations) == (True, False)


def test_old_glora_order_of_factors() -> None:
    layer = layers()["linear"]
    new = tensors_of("glora", layer)
    old = {"a1": new["a2"], "a2": new["a1"], "b1": new["b2"], "b2": new["b1"], "alpha": new["alpha"]}
    ((a,), (b,)) = deltas_on(layer, new), deltas_on(layer, old)
    torch.testing.assert_close(a.merge(layer.weight), b.merge(layer.weight), rtol=0, atol=0)


def test_grouped_convolution_uses_the_dense_weight() -> None:
    layer = nn.Conv2d(12, 16, 3, groups=2).double().requires_grad_(False)
    tensors = tensors_of("lora", layer)
    stack = Stack(Layer(layer, "conv"), deltas_on(layer, tensors))
    x = input_for(layer, 2)
    weight, bias = stack.dense()
    torch.testing.assert_close(stack(x, layer(x)), nn.functional.conv2d(x, weight, bias, groups=2))


@pytest.mark.parametrize("kind", ["linear", "conv1x1"])
def test_tensors_of_the_other_kind_of_pointwise_layer(kind: str) -> None:
    """proj_in is a 1x1 convolution in SD 1.x and a linear layer in SD 2.x and SDXL; files come in either shape."""
    layer, other = layers()[kind], layers()["conv1x1" if kind == "linear" else "linear"]
    (same,), (swapped,) = (
        deltas_on(layer, tensors_of("lora", layer)),
        deltas_on(
            layer,
            {
                key: value.reshape(tensors_of("lora", other)[key].shape)
                for key, value in tensors_of("lora", layer).items()
            },
        ),
    )
    torch.testing.assert_close(same.merge(layer.weight), swapped.merge(layer.weight), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["linear", "conv3x3"])
def test_a_blend_equals_the_weighted_merges(kind: str) -> None:
    """One row with two sets by position (single-pass fusion), for every format beside a plain LoRA."""
    layer = layers()[kind]
    model = nn.Sequential(layer)
    weights = torch.rand(2, 2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x = random(2, 30, 12, seed=5, scale=1.0) if kind == "linear" else input_for(layer, 2)
    base = model(x)
    per_position = weights.flatten(2)[..., None] if kind == "linear" else weights[:, :, None]
    for form in [form for form in FORMS if (form, kind) in CASES]:
        one = applied("unet", {layer: deltas_on(layer, tensors_of(form, layer), 0.7)})
        two = applied("unet", {layer: deltas_on(layer, tensors_of("lora", layer, seed=50), -0.4)})
        loras = RowLoras("unet", model, [[], [one], [two]])
        blend = Blend(weights, (1, 2), (0, 1), torch.ones(2, 6, 5, dtype=torch.float64))
        with loras.installed(), loras.blended(blend):
            out = model(x)
        changes = [merged(loras, index, model, x) - base for index in (1, 2)]
        wanted = base + sum(per_position[:, slot] * change for slot, change in enumerate(changes))
        torch.testing.assert_close(out, wanted, rtol=1e-9, atol=1e-9, msg=lambda text, form=form: f"{form}: {text}")
