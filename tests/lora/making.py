"""Random tensors of every LoRA format for a given layer, and small helpers for these tests."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clora.lora.formats import Delta, Reading, read_deltas
from clora.lora.resolve import AppliedLora
from clora.lora.target import Target


def random(*shape: int, seed: int = 0, scale: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape) + 7 * len(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale


def alpha(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def tensors_of(form: str, layer: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A module's tensors, suffix -> tensor, of the format with this test id."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    shape = tuple(weight.shape)

    def r(*size: int, more: int = 0) -> Tensor:
        return random(*size, seed=seed + more)

    if form == "norm":
        return {"w_norm": r(shape[0]), "b_norm": r(shape[0], more=1)}
    out, features, *kernel = shape
    ones = [1] * len(kernel)
    makers: dict[str, Callable[[], dict[str, Tensor]]] = {
        "lora": lambda: {"lora_down": r(3, features, *kernel), "lora_up": r(out, 3, *ones), "alpha": alpha(2.0)},
        "mid": lambda: {
            "lora_down": r(3, features, *ones),
            "lora_up": r(out, 3, *ones),
            "alpha": alpha(1.5),
            "lora_mid": r(3, 3, *kernel),
        },
        "loha": lambda: {
            "hada_w1_a": r(out, 2),
            "hada_w1_b": r(2, features * prod(kernel)),
            "alpha": alpha(1.0),
            "hada_w2_a": r(out, 2, more=1),
            "hada_w2_b": r(2, features * prod(kernel), more=1),
        },
        "loha_tucker": lambda: {
            "hada_w1_a": r(2, out),
            "hada_w1_b": r(2, features),
            "hada_t1": r(2, 2, *kernel),
            "alpha": alpha(1.0),
            "hada_w2_a": r(2, out, more=1),
            "hada_w2_b": r(2, features, more=1),
            "hada_t2": r(2, 2, *kernel, more=1),
        },
        "loha_dense": lambda: {
            "hada_w1_a": r(out, 8),
            "hada_w1_b": r(8, features * prod(kernel)),
            "hada_w2_a": r(out, 8, more=1),
            "hada_w2_b": r(8, features * prod(kernel), more=1),
        },
        "lokr_whole": lambda: {"lokr_w1": r(4, 2), "lokr_w2": r(out // 4, features // 2, *kernel), "alpha": alpha(9.0)},
        "lokr_low": lambda: {
            "lokr_w1": r(4, 2),
            "lokr_w2_a": r(out // 4, 2),
            "alpha": alpha(1.0),
            "lokr_w2_b": r(2, features // 2 * prod(kernel)),
        },
        "lokr_both": lambda: {
            "lokr_w1_a": r(4, 2),
            "lokr_w1_b": r(2, 2),
            "lokr_w2_a": r(out // 4, 2),
            "lokr_w2_b": r(2, features // 2 * prod(kernel)),
            "alpha": alpha(1.0),
        },
        "lokr_tucker": lambda: {
            "lokr_w1": r(4, 2),
            "lokr_w2_a": r(2, out // 4),
            "lokr_w2_b": r(2, features // 2),
            "lokr_t2": r(2, 2, *kernel),
            "alpha": alpha(1.0),
        },
        "glora": lambda: {
            "a1": r(features, 2, *ones),
            "a2": r(2, features, *ones),
            "b1": r(out, 2, *ones),
            "b2": r(2, features, *kernel),
            "alpha": alpha(1.0),
        },
        "ia3_out": lambda: {"weight": r(out), "on_input": torch.tensor(0)},
        "ia3_in": lambda: {"weight": r(features), "on_input": torch.tensor(1)},
        "oft": lambda: {"oft_blocks": r(out // 4, 4, 4), "alpha": alpha(0.01)},
        "oft_rescaled": lambda: {"oft_blocks": r(out // 4, 4, 4), "rescale": 1 + r(out, *[1] * (len(shape) - 1))},
        "oft_diag": lambda: {"oft_diag": torch.linalg.qr(r(out // 4, 4, 4))[0]},
        "boft": lambda: {"oft_blocks": r(3, out // 4, 4, 4), "rescale": 1 + r(out, *[1] * (len(shape) - 1))},
        "full": lambda: {"diff": r(*shape), "diff_b": r(out, more=1)},
        "bias": lambda: {"diff_b": r(out)},
        "dora_out": lambda: {**makers["lora"](), "dora_scale": 1 + r(out, *[1] * (len(shape) - 1))},
        "dora_in": lambda: {**makers["lora"](), "dora_scale": 1 + r(1, features, *ones)},
        "dora_peft": lambda: {**makers["lora"](), "magnitude": 1 + (r(1, out, *ones) if kernel else r(out))},
        "adalora": lambda: {**makers["lora"](), "lora_E": r(3, 1, more=2)},
        "lora_bias": lambda: {**makers["lora"](), "lora_bias": r(out, more=3)},
        "rest": lambda: {**makers["lora"](), "bias": r(*shape, more=3)},
        "sparse_rest": lambda: {
            **makers["lora"](),
            "bias_indices": torch.tensor([[0, 3, out - 1], [1, 0, features * prod(kernel) - 1]], dtype=torch.int16),
            "bias_values": r(3, more=3),
            "bias_size": torch.tensor([out, features * prod(kernel)], dtype=torch.int16),
        },
        "whole_bias": lambda: {**makers["lora"](), "base_bias": r(out, more=3)},
        "reshaped": lambda: {**makers["lora"](), "reshape_weight": torch.tensor(shape)},
        "ia3_peft_out": lambda: {"ia3_l": 1 + (r(1, out, *ones) if kernel else r(out, 1))},
        "ia3_peft_in": lambda: {"ia3_l": 1 + r(1, features, *ones)},
        "oft_peft": lambda: {"oft_R": r(features * prod(kernel) // 4, 6)},
        "oft_shared": lambda: {"oft_R": r(1, 6), "scaled_oft": torch.tensor(True)},
        "boft_peft": lambda: {"boft_R": r(2, features * prod(kernel) // 2, 2, 2), "boft_s": 1 + r(out, 1)},
        "oft_old_in": lambda: {"oft_r": r(features * prod(kernel) // 2, 2, 2), "oft_s": 1 + r(out, 1)},
        "oft_old_out": lambda: {"oft_r": r(1, 4, 4)},
        "hra": lambda: {"hra_u": r(features * prod(kernel), 3)},
        "vera": lambda: {
            "vera_lambda_b": r(out),
            "vera_lambda_d": r(3),
            "vera_A": r(5, features + 2),
            "vera_B": r(out + 2, 5),
        },
        "tlora": lambda: {
            "q_layer": r(3, features, *ones),
            "p_layer": r(out, 3, *ones),
            "lambda_layer": r(1, 3),
            "alpha": alpha(2.0),
        },
        "tlora_start": lambda: {
            **makers["tlora"](),
            "base_q": r(3, features, *ones, more=1),
            "base_p": r(out, 3, *ones, more=1),
            "base_lambda": r(1, 3, more=1),
        },
        "dora_loha": lambda: {**makers["loha"](), "dora_scale": 1 + r(out, *[1] * (len(shape) - 1))},
    }
    return makers[form]()


FORMS = (
    "lora",
    "mid",
    "loha",
    "loha_tucker",
    "loha_dense",
    "lokr_whole",
    "lokr_low",
    "lokr_both",
    "lokr_tucker",
    "glora",
    "ia3_out",
    "ia3_in",
    "oft",
    "oft_rescaled",
    "oft_diag",
    "boft",
    "full",
    "bias",
    "dora_out",
    "dora_in",
    "dora_peft",
    "dora_loha",
    "adalora",
    "lora_bias",
    "rest",
    "sparse_rest",
    "whole_bias",
    "reshaped",
    "ia3_peft_out",
    "ia3_peft_in",
    "oft_peft",
    "oft_shared",
    "boft_peft",
    "oft_old_in",
    "oft_old_out",
    "hra",
    "vera",
    "tlora",
    "tlora_start",
)


LINEAR_ONLY = ("vera",)
POINTWISE_ONLY = ("tlora", "tlora_start")


def fits(form: str, kind: str) -> bool:
    """Whether a format exists for a kind of layer (a key of `layers`)."""
    linear = kind in ("linear", "linear_no_bias")
    return (linear or form not in LINEAR_ONLY) and (linear or kind == "conv1x1" or form not in POINTWISE_ONLY)


def prod(sizes: list[int]) -> int:
    return torch.Size(sizes).numel()


def layers() -> dict[str, nn.Module]:
    """One layer of every kind, float64, with sizes that the formats above can divide."""
    torch.manual_seed(0)
    made = {
        "linear": nn.Linear(12, 16),
        "linear_no_bias": nn.Linear(12, 16, bias=False),
        "conv1x1": nn.Conv2d(12, 16, 1),
        "conv3x3": nn.Conv2d(12, 16, 3, padding=1),
        "stride2": nn.Conv2d(12, 16, 3, stride=2, padding=1),
        "circular": nn.Conv2d(12, 16, 3, padding=1, padding_mode="circular"),
        "layer_norm": nn.LayerNorm(12),
        "group_norm": nn.GroupNorm(3, 12),
    }
    return {name: layer.double().requires_grad_(False) for name, layer in made.items()}


def input_for(layer: nn.Module, rows: int) -> Tensor:
    if isinstance(layer, nn.Conv2d | nn.GroupNorm):
        return random(rows, 12, 6, 5, seed=5, scale=1.0)
    return random(rows, 7, 12, seed=5, scale=1.0)


def deltas_on(
    layer: nn.Module, tensors: dict[str, Tensor], strength: float = 0.8, options: dict[str, object] | None = None
) -> tuple[Delta, ...]:
    """The deltas of one module's tensors; checks that every tensor is used."""
    target = Target(layer, "layer")
    scale = float(tensors["alpha"]) if "alpha" in tensors else None
    how = Reading(strength, lambda rank: 1.0 if scale is None else scale / rank, options=options or {})
    made, used = read_deltas(tensors, target.layer(), how)
    assert used == tensors.keys()
    assert made
    return made


def applied(component: str, deltas: dict[nn.Module, tuple[Delta, ...]]) -> AppliedLora:
    """A LoRA made of given deltas."""
    by_target = {Target(module, "layer"): of for module, of in deltas.items()}
    return AppliedLora("made", 0.8, 0.8, None, {component: by_target}, 1, ())
