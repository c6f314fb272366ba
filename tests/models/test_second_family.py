"""A model family that is no UNet composes through the same composer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from clora.engine.composer import Composer, Step
from clora.errors import CLoRAError
from clora.lora.file import LoraFile
from clora.lora.rows import RowLoras
from clora.models import family_of
from clora.models.denoiser import Row
from clora.models.lora import apply_lora
from clora.settings import Settings
from tests.plans import plan_of
from tests.tiny_transformer import LENGTH, TEXT, TinyTransformer, TinyTransformerFamily, TransformerDenoiser

PLAN = plan_of([[(2,), (5,)]] * 3, [(), (1,), (4,)], "subject")
SIZE = (8, 12)


def lora(seed: int) -> LoraFile:
    """A LoRA on every cross-attention's value and every MLP of the transformer."""
    generator = torch.Generator().manual_seed(seed)

    def pair(inner: int) -> dict[str, Tensor]:
        down, up = torch.randn(2, inner, generator=generator), torch.randn(16, 2, generator=generator)
        return {"lora_down": down.double(), "lora_up": up.double()}

    tensors = {f"lora_unet_layers_{n}_reads_text_value": pair(TEXT) for n in range(3)}
    tensors |= {f"lora_unet_layers_{n}_mlp": pair(16) for n in range(3)}
    return LoraFile(f"lora{seed}", Path(f"lora{seed}.safetensors"), {}, tensors)


@pytest.fixture
def denoiser() -> TransformerDenoiser:
    torch.manual_seed(0)
    model, family = TinyTransformer().double().eval(), TinyTransformerFamily()
    applied = [apply_lora(lora(seed), {"unet": model}, te=1.0, unet=0.5, family=family) for seed in (1, 2)]
    assert all(one.layer_count == 6 and not one.unhandled for one in applied)
    texts = torch.randn(3, LENGTH, TEXT, generator=torch.Generator().manual_seed(3)).double()
    return TransformerDenoiser(model, RowLoras("unet", model, [(), *[(one,) for one in applied]]), texts)


def latent() -> Tensor:
    return torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(4)).double()


def run(denoiser: TransformerDenoiser, steps: int = 4, **values: object) -> list[Step]:
    settings = Settings(**{"update_until": 0.5, "refine_at": (), "fuse_from": 0.25, **values})
    composer = Composer(denoiser.model, settings, steps, loras=denoiser.loras, family=TinyTransformerFamily())
    x, found = latent(), []
    with denoiser.loras.installed(), composer.installed():
        for index in range(steps):
            found.append(composer.step(index, x, [PLAN], denoiser))
            x = found[-1].latent - 0.1 * found[-1].cond
    return found


def test_it_is_no_unet() -> None:
    with pytest.raises(CLoRAError, match="TinyTransformer has no UNet cross-attention"):
        family_of(TinyTransformer())


@pytest.mark.parametrize("fusion", ["exact", "single-pass"])
def test_it_composes(denoiser: TransformerDenoiser, fusion: str) -> None:
    steps = run(denoiser, fusion=fusion)
    assert not torch.equal(steps[0].latent, latent())  # the update moved it
    masks = steps[-1].masks[0]
    assert masks is not None
    assert masks.shape == (3, *SIZE)
    assert (masks.sum(dim=0) == 1).all()
    assert masks[1:].sum() > 0
    assert all(torch.isfinite(step.cond).all() for step in steps)


def test_its_maps_have_its_own_grid(denoiser: TransformerDenoiser) -> None:
    maps = run(denoiser, fusion="exact")[-1].maps
    assert maps is not None
    assert maps.example.shape[-2:] == (4, 6)
    own = denoiser.model.layers[0].reads_text
    assert isinstance(own, torch.nn.Module)


def test_a_single_pass_with_a_mask_that_covers_all_is_that_variants_row(denoiser: TransformerDenoiser) -> None:
    settings = Settings(fusion="single-pass", update_until=0.0)
    composer = Composer(denoiser.model, settings, 4, loras=denoiser.loras, family=TinyTransformerFamily())
    everywhere = torch.zeros(3, *SIZE, dtype=torch.float64)
    everywhere[2] = 1.0
    with denoiser.loras.installed(), composer.installed():
        step = composer.predict(2, latent(), [PLAN], denoiser, masks=[everywhere])
        alone = denoiser.predict(latent(), (Row(0, 2, True),))
        base = denoiser.predict(latent(), (Row(0, 0, True),))
    torch.testing.assert_close(step.cond, alone, rtol=1e-9, atol=1e-9)
    assert (alone - base).abs().max() > 0.1  # the LoRA and the text of variant 2 do something


def test_the_gradient_is_the_losses_own(denoiser: TransformerDenoiser) -> None:
    """Against finite differences along a random direction."""
    composer = Composer(denoiser.model, Settings(), 4, loras=denoiser.loras, family=TinyTransformerFamily())
    direction = torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(5)).double()
    with denoiser.loras.installed(), composer.installed():
        composer.probe.survey(SIZE, lambda: denoiser.predict(latent(), (Row(0, 0, True),)))
        found = composer.update.gradient(latent(), [PLAN], denoiser)
        ahead, behind = (
            composer.update.gradient(latent() + sign * 1e-6 * direction, [PLAN], denoiser).losses for sign in (1, -1)
        )
    slope = (found.value * direction).sum()
    torch.testing.assert_close(slope, (ahead - behind)[0] / 2e-6, rtol=1e-5, atol=1e-8)
