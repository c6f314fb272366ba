"""Whether a device computes what the CPU computes in float64: maps, gradients, steps, and every LoRA format."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.unets import Bench, new_unet
from clora.attention.maps import collect_maps
from clora.engine.composer import Composer
from clora.lora.rows import RowLoras
from clora.settings import Settings
from tests.lora.making import FORMS, applied, deltas_on, fits, input_for, layers, random, tensors_of

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TOLERANCES = {
    # Of a tiny network, relative to the largest value; convolutions on CUDA may round float32 to TF32.
    "float32": 0.01, "float16": 0.05, "bfloat16": 0.3,
}  # fmt: skip
ONLY_CONVOLUTIONS = {"mid", "loha_tucker", "lokr_tucker"}
ROWS = (1, 0, 2, 1)


@dataclass(frozen=True)
class Checked:
    """The largest error of one quantity, relative to the largest exact value."""

    name: str
    dtype: str
    error: float

    @property
    def passed(self) -> bool:
        """Whether it is small enough; NaN is not."""
        return self.error < TOLERANCES[self.dtype]


def error_of(found: Tensor, exact: Tensor) -> float:
    """max |found - exact| / max |exact|."""
    exact = exact.double()
    return float((found.detach().cpu().double() - exact).abs().max() / exact.abs().max())


# ---------------------------------------------------------------------------------------------------- the engine


class _Run:
    """Maps, gradient, step and single pass of a small UNet with two LoRAs."""

    def __init__(self, unet: Any, sdxl: bool) -> None:
        self.bench = Bench(unet, 2, 256, sdxl)
        dtype = torch.promote_types(next(unet.parameters()).dtype, torch.float32)
        self.bench.latent = self.bench.latent.to(dtype)
        masks = torch.zeros(3, 32, 32, dtype=dtype)
        masks[1, :, :20], masks[2, :, 12:], masks[0, :4] = 1.0, 1.0, 1.0
        self.masks = [masks.to(self.bench.latent.device)]

    def results(self) -> dict[str, Tensor]:
        """By the quantity's name."""
        bench = self.bench
        settings = Settings(fusion="exact", fuse_from=0.0)
        composer = Composer(bench.unet, settings, 20, loras=bench.loras)
        single = Composer(bench.unet, settings.replace(fusion="single-pass"), 20, loras=bench.loras)
        rows, x, plans = bench.rows[:3], bench.latent, [bench.plan]
        size = (x.shape[-2], x.shape[-1])
        with bench.loras.installed(), composer.installed():
            with torch.no_grad():
                composer.probe.survey(size, lambda: bench.predict(x, rows[:1]))
                maps = collect_maps(composer.probe, bench, x, rows, bench.plan.columns)
            half = composer.probe.dtype == torch.float16
            gradient = composer.update.gradient(x, plans, bench, half=half)
            step = composer.predict(0, x, plans, bench, masks=self.masks)
        with bench.loras.installed(), single.installed():
            fused = single.predict(0, x, plans, bench, masks=self.masks)
        return {"maps": maps, "gradient": gradient.value, "exact step": step.cond, "single pass": fused.cond}


def engine_checks(device: str, dtype: str) -> Iterator[Checked]:
    """The quantities of SD 1.5's and SDXL's structure."""
    for sdxl, name in ((False, "SD 1.5"), (True, "SDXL")):
        unet = new_unet(sdxl, "cpu", torch.float64, small=True).requires_grad_(False)
        for parameter, own in unet.named_parameters():
            if "attn2.to_q" in parameter or "attn2.to_k" in parameter:
                nn.init.normal_(own, std=own.shape[1] ** -0.5 * 2)  # maps that show something
        exact = _Run(unet, sdxl).results()
        found = _Run(copy.deepcopy(unet).to(device, DTYPES[dtype]), sdxl).results()
        for quantity, value in exact.items():
            yield Checked(f"{name}, {quantity}", dtype, error_of(found[quantity], value))


# ------------------------------------------------------------------------------------------------- LoRA formats


def format_cases() -> list[tuple[str, str]]:
    """Every format on a linear layer and a convolution where it exists for them, and norms."""
    cases = [
        (form, kind)
        for kind in ("linear", "conv3x3")
        for form in FORMS
        if not (kind == "linear" and form in ONLY_CONVOLUTIONS) and fits(form, kind)
    ]
    return [*cases, ("norm", "layer_norm"), ("norm", "group_norm")]


def two_loras(form: str, layer: nn.Module, model: nn.Module) -> RowLoras:
    """Sets of none, one and two LoRAs of one format, whose tensors are a file's: on the CPU, in half precision."""

    def lora(seed: int, strength: float) -> Any:
        made = tensors_of(form, layer, seed=seed)
        half = {name: value.half() if value.is_floating_point() else value for name, value in made.items()}
        return applied("unet", {layer: deltas_on(layer, half, strength)})

    one, two = lora(0, 0.7), lora(50, -0.4)
    return RowLoras("unet", model, [[], [one], [one, two]])


def format_outputs(form: str, kind: str, device: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The output of one layer for a batch of rows with different LoRAs of one format, and its gradient."""
    layer = layers()[kind].to(device, dtype)
    model = nn.Sequential(layer)
    loras = two_loras(form, layer, model)
    x = input_for(layer, len(ROWS)).to(dtype).to(device).requires_grad_()
    with loras.installed(), loras.rows(ROWS):
        out = model(x)
    weight = random(*out.shape, seed=9).to(dtype).to(device)
    (gradient,) = torch.autograd.grad((out * weight).float().sum(), x)
    return out.detach(), gradient


def format_checks(device: str, dtype: str) -> Iterator[Checked]:
    """Every format's output and gradient, the worse of the two."""
    for form, kind in format_cases():
        exact = format_outputs(form, kind, "cpu", torch.float64)
        found = format_outputs(form, kind, device, DTYPES[dtype])
        error = max(error_of(one, other) for one, other in zip(found, exact, strict=True))
        yield Checked(f"LoRA {form} on {kind}", dtype, error)
