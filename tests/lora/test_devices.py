"""Every LoRA format on an accelerator (tests/accelerator.py), in every dtype, and with the host's weight on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from making import FORMS, applied, deltas_on, fits, input_for, layers, random, tensors_of
from torch import Tensor, nn

from clora.lora.blend import Blend
from clora.lora.rows import RowLoras
from tests import accelerator

pytestmark = accelerator.needs_accelerator
NOT_LINEAR = {"mid", "loha_tucker", "lokr_tucker"}
CASES = [
    (form, kind)
    for kind in ("linear", "conv3x3")
    for form in FORMS
    if not (kind == "linear" and form in NOT_LINEAR) and fits(form, kind)
]
CASES += [("norm", "layer_norm"), ("norm", "group_norm")]
IDS = [f"{form}-{kind}" for form, kind in CASES]
# Relative to the largest value of the exact output.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}
ROWS = [1, 0, 2, 1]


@pytest.fixture(params=["with float64", "without float64"])
def wide(request: pytest.FixtureRequest) -> Iterator[None]:
    with nullcontext() if request.param == "with float64" else accelerator.without_float64():
        yield


def loras_on(form: str, layer: nn.Module, model: nn.Module, dtype: torch.dtype = torch.float16) -> RowLoras:
    """Two LoRAs of one format, whose tensors are those of a file: on the CPU, in half precision."""

    def tensors(seed: int) -> dict[str, Tensor]:
        made = tensors_of(form, layer, seed=seed)
        return {name: value.to(dtype) if value.is_floating_point() else value for name, value in made.items()}

    one = applied("unet", {layer: deltas_on(layer, tensors(0), 0.7)})
    two = applied("unet", {layer: deltas_on(layer, tensors(50), -0.4)})
    return RowLoras("unet", model, [[], [one], [one, two]])


def outputs(form: str, kind: str, device: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The output of a batch with LoRAs, and its gradient; on the accelerator in `dtype`."""
    layer = layers()[kind].to(device, dtype)
    model = nn.Sequential(layer)
    loras = loras_on(form, layer, model)
    x = input_for(layer, len(ROWS)).to(dtype).to(device).requires_grad_()
    with loras.installed(), loras.rows(ROWS):
        out = model(x)
    weight = random(*out.shape, seed=9).to(dtype).to(device)
    (gradient,) = torch.autograd.grad((out * weight).float().sum(), x)
    return out.detach(), gradient


def near(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    assert found.device.type == accelerator.NAME
    assert found.dtype == dtype
    error = (found.cpu().double() - wanted).abs().max() / wanted.abs().max()
    assert float(error) < TOLERANCE[dtype]


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("form", "kind"), CASES, ids=IDS)
def test_rows_follow_those_of_the_cpu(form: str, kind: str, dtype: torch.dtype) -> None:
    exact = outputs(form, kind, "cpu", torch.float64)
    for found, wanted in zip(outputs(form, kind, accelerator.device(), dtype), exact, strict=True):
        near(found, wanted, dtype)


@pytest.mark.parametrize("compute", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(("form", "kind"), CASES, ids=IDS)
def test_the_weight_may_stay_on_the_cpu(form: str, kind: str, compute: torch.dtype) -> None:
    exact, _ = outputs(form, kind, "cpu", torch.float64)
    layer = layers()[kind].to(torch.float32)
    accelerator.cast_in_forward(layer)
    model = nn.Sequential(layer)
    loras = loras_on(form, layer, model)
    x = input_for(layer, len(ROWS)).to(compute).to(accelerator.device()).requires_grad_()
    with accelerator.without_float64(), loras.installed(), loras.rows(ROWS):
        out = model(x)
    near(out.detach(), exact, compute)
    torch.autograd.grad(out.float().sum(), x)


@pytest.mark.parametrize(("form", "kind"), CASES, ids=IDS)
def test_sets_weighted_by_masks(form: str, kind: str) -> None:
    def blended(device: Any, dtype: torch.dtype) -> Tensor:
        layer = layers()[kind].to(device, dtype)
        model = nn.Sequential(layer)
        loras = loras_on(form, layer, model)
        flat = kind in ("linear", "layer_norm")
        x = (random(2, 30, 12, seed=5, scale=1.0) if flat else input_for(layer, 2)).to(dtype).to(device)
        weights = torch.rand(2, 2, 6, 5, generator=torch.Generator().manual_seed(2)).to(device)
        blend = Blend(weights, (1, 2), (0, 1), torch.ones(2, 6, 5, device=device))
        with loras.installed(), loras.blended(blend):
            return model(x)

    exact = blended("cpu", torch.float64)
    with accelerator.without_float64():
        near(blended(accelerator.device(), torch.float16), exact, torch.float16)


@pytest.mark.parametrize("without", [accelerator.without_autocast, accelerator.without_linear_algebra])
def test_what_a_device_has_not_is_not_asked_of_it(without: Any) -> None:
    for form, kind in CASES:
        exact = outputs(form, kind, "cpu", torch.float64)
        with without(), accelerator.without_float64():
            found = outputs(form, kind, accelerator.device(), torch.float32)
        for one, wanted in zip(found, exact, strict=True):
            near(one, wanted, torch.float32)
