"""The probe against plainly computed attention, and what they leave behind."""

from __future__ import annotations

import pytest
import torch

from clora.attention.maps import average_maps
from clora.attention.probe import AttentionProbe, attention_columns
from clora.errors import CLoRAError
from clora.models import UNetFamily, family_of
from clora.models.denoiser import Row
from tests.toy import ToyDenoiser, toy


def forward_hooks(denoiser: ToyDenoiser) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in denoiser.unet.modules())


def plain_maps(
    denoiser: ToyDenoiser, latent: torch.Tensor, context: torch.Tensor, grid: tuple[int, int]
) -> torch.Tensor:
    """Maps (L, h_a, w_a) of one row, from probabilities of every layer computed in full."""
    taken = []
    for block in denoiser.unet.blocks:
        block.attn2.register_forward_pre_hook(
            lambda module, args: taken.append(module.probabilities(*args)[0]) or None  # type: ignore[func-returns-value]
        )
    denoiser.unet(latent, context)
    for block in denoiser.unet.blocks:
        block.attn2._forward_pre_hooks.clear()
    fitting = [p for p in taken if p.shape[2] == grid[0] * grid[1]]
    assert len(fitting) == 2
    return torch.stack(fitting).mean(dim=(0, 2))[0].T.unflatten(1, grid)


def test_a_variants_maps_are_the_mean_of_both_halves() -> None:
    rows = (Row(0, 0, True), Row(0, 1, True), Row(0, 0, False), Row(0, 1, False))
    maps = torch.randn(4, 2, 3, 5)
    found = average_maps(maps, rows, (2, 5))
    torch.testing.assert_close(found.by_variant[0, 0], (maps[0] + maps[2]) / 2)
    torch.testing.assert_close(found.of(0, 1, (5,)), (maps[1] + maps[3])[1:] / 2)


@pytest.mark.parametrize("size", [(16, 16), (17, 9), (8, 24)])
def test_maps_equal_plain_softmax(size: tuple[int, int]) -> None:
    denoiser = toy()
    latent = torch.randn(1, 4, *size, dtype=torch.float64)
    context = denoiser.contexts[1, True][None]
    expected = plain_maps(denoiser, latent, context, UNetFamily().map_grid(*size))
    probe = AttentionProbe(denoiser.unet)
    with probe.installed():
        maps, result, layers = probe.collect(size, range(9), lambda: denoiser.unet(latent, context), keep_layers=True)
    torch.testing.assert_close(maps[0], expected, rtol=1e-12, atol=1e-14)
    assert list(layers) == ["blocks.2.attn2", "blocks.3.attn2"]
    assert result is not None
    torch.testing.assert_close(maps.sum(dim=1), torch.ones_like(maps[:, 0]), rtol=1e-12, atol=1e-12)


def test_stop_ends_after_the_last_tapped_layer_with_equal_maps_and_gradient() -> None:
    denoiser = toy()
    latent = torch.randn(2, 4, 16, 16, dtype=torch.float64, requires_grad=True)
    context = torch.stack([denoiser.contexts[0, True], denoiser.contexts[1, True]])
    probe, ran = AttentionProbe(denoiser.unet), []
    denoiser.unet.blocks[4].register_forward_hook(lambda *_: ran.append(1))
    with probe.installed():
        assert probe.survey((16, 16), lambda: denoiser.unet(latent[:1], context[:1])) == (
            "blocks.2.attn2",
            "blocks.3.attn2",
        )
        ran.clear()
        stopped, nothing, _ = probe.collect((16, 16), (1, 4), lambda: denoiser.unet(latent, context), stop=True)
        assert nothing is None
        assert not ran
        whole, _, _ = probe.collect((16, 16), (1, 4), lambda: denoiser.unet(latent, context))
        assert ran
    assert torch.equal(stopped, whole)
    weights = torch.randn_like(stopped)
    one, other = (torch.autograd.grad((m * weights).sum(), latent)[0] for m in (stopped, whole))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_survey_runs_once_per_size() -> None:
    denoiser = toy()
    probe = AttentionProbe(denoiser.unet)
    context = denoiser.contexts[0, True][None]
    with probe.installed():
        for _ in range(3):
            probe.survey((16, 16), lambda: denoiser.unet(torch.zeros(1, 4, 16, 16, dtype=torch.float64), context))
    assert denoiser.unet.calls == 1


def test_no_hook_is_left_even_after_an_error() -> None:
    denoiser = toy()
    probe = AttentionProbe(denoiser.unet)
    with probe.installed():
        assert forward_hooks(denoiser) == 10
    with pytest.raises(ZeroDivisionError), probe.installed():
        probe.collect((16, 16), (1,), lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert forward_hooks(denoiser) == 0


def test_taps_do_not_change_the_prediction() -> None:
    denoiser = toy()
    latent = torch.randn(1, 4, 16, 16, dtype=torch.float64)
    context = denoiser.contexts[0, True][None]
    plain = denoiser.unet(latent, context)
    probe = AttentionProbe(denoiser.unet)
    with probe.installed():
        _, tapped, _ = probe.collect((16, 16), (1, 2), lambda: denoiser.unet(latent, context))
    assert torch.equal(plain, tapped)


def test_half_precision_is_normalised_in_float32() -> None:
    query, key = torch.randn(1, 4, 8), torch.randn(1, 6, 8) * 4
    full = attention_columns(query, key, 2, 0.0, torch.arange(6))
    half = attention_columns(query.half(), key.half(), 2, 0.0, torch.arange(6))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.05, atol=5e-3)
    torch.testing.assert_close(half.sum(-1), torch.ones(1, 2, 4), rtol=1e-5, atol=1e-5)


def test_models_without_cross_attention_are_refused_in_one_sentence() -> None:
    with pytest.raises(CLoRAError, match=r"has no UNet cross-attention; load an SD 1\.5"):
        family_of(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_a_grid_no_layer_has_is_refused() -> None:
    denoiser = toy()
    probe = AttentionProbe(denoiser.unet)
    latent = torch.zeros(1, 4, 64, 64, dtype=torch.float64)
    with probe.installed(), pytest.raises(CLoRAError, match="No cross-attention layer"):
        probe.survey((32, 32), lambda: denoiser.unet(latent, denoiser.contexts[0, True][None]))


def test_bypassed_projections_are_reported() -> None:
    denoiser = toy()
    probe = AttentionProbe(denoiser.unet)
    with probe.installed(), pytest.raises(CLoRAError, match="gets no attention maps"):
        probe.collect((16, 16), (1,), lambda: torch.zeros(1))
