"""Settings that trade exactness for time: kept masks, reused differences, shared rows, fewer layers, fewer rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from clora.attention.maps import collect_maps
from clora.engine.composer import Composer, Step
from clora.errors import CLoRAError
from clora.models.denoiser import Row
from clora.models.memory import GraphSize, RowLimit, is_out_of_memory
from tests.plans import plan_of
from tests.toy import ToyDenoiser, toy
from tests.updating import updating

PLAN = plan_of([[(2,), (5,)], [(3,), (6,)], [(2,), (6,)]], [(), (2,), (5,)], "all")
SIZE = (16, 16)


@pytest.fixture
def latent() -> Tensor:
    return torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def steps_of(denoiser: ToyDenoiser, latent: Tensor, count: int = 10, **values: Any) -> list[Step]:
    """Steps over latents that change, as a sampler's do."""
    composer = Composer(denoiser.unet, updating(**{"update_until": 0.0, "fuse_from": 0.0, **values}), count)
    with composer.installed():
        return [composer.step(i, latent * (1.0 - 0.05 * i), [PLAN], denoiser) for i in range(count)]


def masks(steps: list[Step]) -> list[Tensor]:
    found = [step.masks[0] for step in steps]
    assert all(mask is not None for mask in found)
    return [mask for mask in found if mask is not None]


def test_masks_are_cut_every_so_many_steps_and_kept(latent: Tensor) -> None:
    own = masks(steps_of(toy(), latent))
    every = masks(steps_of(toy(), latent, mask_every=3))
    for index, mask in enumerate(every):
        assert torch.equal(mask, own[index - index % 3])
    assert any(not torch.equal(a, b) for a, b in zip(own, every, strict=True))


def test_masks_stay_after_a_part_of_the_steps(latent: Tensor) -> None:
    own = masks(steps_of(toy(), latent))
    until = masks(steps_of(toy(), latent, mask_until=0.4))
    for index, mask in enumerate(until):
        assert torch.equal(mask, own[min(index, 3)])


def test_masks_begin_where_fusion_begins(latent: Tensor) -> None:
    steps = steps_of(toy(), latent, fuse_from=0.3, mask_every=4)
    assert [step.masks[0] is None for step in steps] == [True] * 3 + [False] * 7
    assert [step.maps is not None for step in steps] == [index in (3, 7) for index in range(10)]


def test_the_negative_row_may_be_shared(latent: Tensor) -> None:
    denoiser = toy()
    shared, own = steps_of(denoiser, latent, 1, shared_uncond=True)[0], steps_of(toy(), latent, 1)[0]
    assert len(denoiser.rows_seen[0]) == 4
    assert torch.equal(shared.cond, own.cond)
    assert shared.uncond is not None
    base = own.prediction.rows[Row(0, 0, False)]
    torch.testing.assert_close(shared.uncond[0], base)


def test_differences_are_used_again(latent: Tensor) -> None:
    denoiser = toy()
    steps = steps_of(denoiser, latent, 4, variants_every=2)
    assert [len(rows) for rows in denoiser.rows_seen] == [6, 2, 6, 2]
    exact = steps_of(toy(), latent, 4)
    assert torch.equal(steps[2].cond, exact[2].cond)
    assert not torch.equal(steps[1].cond, exact[1].cond)
    # What stands for a variant is the base of this step and the variant's difference of the step before.
    of, before = steps[1].prediction.rows, steps[0].prediction.rows
    for row in of:
        base = row._replace(variant=0)
        torch.testing.assert_close(of[row], of[base] + before[row] - before[base])
    assert torch.equal(masks(steps)[1], masks(steps)[0])


def test_the_first_masks_are_never_put_off(latent: Tensor) -> None:
    denoiser = toy()
    steps = steps_of(denoiser, latent, 4, variants_every=4, fuse_from=0.5)
    assert [len(rows) for rows in denoiser.rows_seen] == [6, 2, 6, 2]
    assert steps[2].masks[0] is not None


def test_concepts_may_end_early(latent: Tensor) -> None:
    denoiser = toy()
    steps = steps_of(denoiser, latent, 10, compose_until=0.6, update_until=1.0, refine_at=())
    last = steps[6]
    assert last.masks[0] is None
    assert set(last.prediction.rows) == {(0, 0, True), (0, 0, False)}
    assert torch.equal(last.cond[0], last.prediction.rows[Row(0, 0, True)])
    assert len(denoiser.rows_seen[-1]) == 2


def test_the_update_may_look_at_the_way_down_only() -> None:
    pytest.importorskip("diffusers")
    from tests.rows_on_tiny_unet import PLAN, Denoiser, latents

    gradients, seen = [], []
    for layers in ("all", "down"):
        denoiser = Denoiser("thin", "thin")
        composer = Composer(denoiser.unet, updating(update_layers=layers), 10)
        names: list[str] = []
        handles = [
            module.register_forward_hook(lambda *_, name=name, names=names: names.append(name))
            for name, module in denoiser.unet.named_modules()
            if name.endswith("attn2.to_k")
        ]
        with denoiser.loras.installed(), composer.installed():
            composer.probe.survey((16, 12), partial(denoiser.predict, latents(1), (Row(0, 0, True),)))
            names.clear()
            gradients.append(composer.update.gradient(latents(1), [PLAN], denoiser).value)
        for handle in handles:
            handle.remove()
        seen.append(names)
    assert any(name.startswith("up_blocks") for name in seen[0])
    assert seen[1] == [name for name in seen[1] if name.startswith("down_blocks")] != []
    assert all(torch.isfinite(one).all() and one.abs().sum() > 0 for one in gradients)
    assert not torch.allclose(gradients[0], gradients[1])


# ------------------------------------------------------------------------------------- memory running out


class Small(ToyDenoiser):
    """A denoiser whose memory holds `most` rows, fewer while gradients are kept."""

    most = 99
    error: BaseException = torch.OutOfMemoryError("CUDA out of memory")

    def predict(self, latent: Tensor, rows: Any, *, vectors: Tensor | None = None) -> Tensor:
        if len(rows) > (self.most // 2 if torch.is_grad_enabled() else self.most):
            self.rows_seen.append(())
            raise self.error
        return super().predict(latent, rows)


def small(most: int) -> Small:
    source = toy()
    found = Small(source.unet, source.contexts)
    found.most = most
    return found


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_rows_are_halved_until_they_fit(latent: Tensor, error: BaseException) -> None:
    denoiser, exact = small(2), toy()
    denoiser.error = error
    found, wanted = (steps_of(d, latent, 2, update_until=1.0, refine_at=()) for d in (denoiser, exact))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.latent, other.latent, rtol=0, atol=1e-12)
        torch.testing.assert_close(one.cond, other.cond, rtol=0, atol=1e-12)
    # 3 rows and then 1 of the update did not fit; nothing is tried again that failed once.
    assert denoiser.rows_seen.count(()) == 1
    assert max(map(len, denoiser.rows_seen)) == 1


def test_too_little_for_one_row_is_a_sentence(latent: Tensor) -> None:
    with pytest.raises(CLoRAError, match="a single row"):
        steps_of(small(0), latent, 1)


def test_the_run_tells_once_that_memory_ran_out(latent: Tensor) -> None:
    denoiser = small(4)
    composer = Composer(denoiser.unet, updating(update_until=0.0), 4)
    with composer.installed():
        for index in range(3):
            composer.step(index, latent, [PLAN], denoiser)
    assert len(composer.warnings) == 1
    assert "3 rows are computed at once" in composer.warnings[0]


@pytest.mark.parametrize(("rows", "pieces"), [(99, [3]), (2.5, [2, 1]), (1.2, [1, 1, 1]), (0.1, [1, 1, 1])])
def test_rows_are_chosen_by_free_memory(
    latent: Tensor, monkeypatch: pytest.MonkeyPatch, rows: float, pieces: list[int]
) -> None:
    """`rows` rows' graphs fit: the first forward measures one, and nothing has to fail first."""
    denoiser = toy()
    size = GraphSize(denoiser.unet)
    (wanted,) = steps_of(toy(), latent, 1, update_until=1.0, refine_at=())
    composer = Composer(denoiser.unet, updating(update_until=1.0, refine_at=()), 1)
    first = (Row(0, 0, True),)
    with composer.installed():
        composer.probe.survey(SIZE, partial(denoiser.predict, latent, first))
        with torch.enable_grad(), size.measured():
            collect_maps(composer.probe, denoiser, latent.clone().requires_grad_(True), first, PLAN.columns)
        assert size.bytes > latent.numel() * 8
        monkeypatch.setattr("clora.guidance.update.free_bytes", lambda device: int(rows * size.bytes / 0.75) + 8)
        denoiser.rows_seen.clear()
        found = composer.before(0, latent, [PLAN], denoiser)
    torch.testing.assert_close(found, wanted.latent, rtol=0, atol=1e-12)
    forwards = [len(seen) for seen in denoiser.rows_seen]
    # One measured, then all at once, or the maps of every piece and then the gradient of every piece.
    assert forwards == [1, *(pieces if len(pieces) == 1 else pieces * 2)]


def test_other_errors_pass() -> None:
    assert not is_out_of_memory(RuntimeError("shapes differ"))

    def fails(size: int) -> int:
        raise RuntimeError("shapes differ")

    limit = RowLimit(0)
    with pytest.raises(RuntimeError, match="shapes differ"):
        limit.run(4, fails)
    assert limit.size == 0
