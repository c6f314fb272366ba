"""Every LoRA format on an accelerator (tests/accelerator/), in every dtype, and with the host's weight on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from making import input_for, layers, random
from torch import Tensor, nn

from benchmarks.gpu_checks import ROWS, error_of, format_cases, format_outputs, two_loras
from clora.lora.blend import Blend
from tests import accelerator

pytestmark = accelerator.needs_accelerator
CASES = format_cases()
IDS = [f"{form}-{kind}" for form, kind in CASES]
# Relative to the largest value of the exact output.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


@pytest.fixture(params=["with float64", "without float64"])
def wide(request: pytest.FixtureRequest) -> Iterator[None]:
    with nullcontext() if request.param == "with float64" else accelerator.without_float64():
        yield


def near(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    assert found.device.type == accelerator.NAME
    assert found.dtype == dtype
    assert error_of(found, wanted) < TOLERANCE[dtype]


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("form", "kind"), CASES, ids=IDS)
def test_rows_follow_those_of_the_cpu(form: str, kind: str, dtype: torch.dtype) -> None:
    exact = format_outputs(form, kind, "cpu", torch.float64)
    for found, wanted in zip(format_outputs(form, kind, accelerator.device(), dtype), exact, strict=True):
        near(found, wanted, dtype)


@pytest.mark.parametrize("compute", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(("form", "kind"), CASES, ids=IDS)
def test_the_weight_may_stay_on_the_cpu(form: str, kind: str, compute: torch.dtype) -> None:
    exact, _ = format_outputs(form, kind, "cpu", torch.float64)
    layer = layers()[kind].to(torch.float32)
    accelerator.cast_in_forward(layer)
    model = nn.Sequential(layer)
    loras = two_loras(form, layer, model)
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
        loras = two_loras(form, layer, model)
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
        exact = format_outputs(form, kind, "cpu", torch.float64)
        with without(), accelerator.without_float64():
            found = format_outputs(form, kind, accelerator.device(), torch.float32)
        for one, wanted in zip(found, exact, strict=True):
            near(one, wanted, torch.float32)
