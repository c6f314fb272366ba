"""The first steps of the base alone: where the subjects of a prompt will be, before any LoRA has drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from clora.attention.maps import latent_rows, needed_columns
from clora.attention.probe import AttentionProbe
from clora.conditioning.plan import rows_of
from clora.fusion.forwards import base_rows
from clora.guidance.classifier_free import guide
from clora.hosts.diffusers.compose import prepare
from clora.hosts.diffusers.sampling import DiffusersDenoiser, Sampling, initial_latents
from clora.lora.library import LoraLibrary, Source
from clora.lora.rows import RowLoras
from clora.prompt import analyze
from clora.prompt.evidence import evidence_of_files
from clora.settings import Settings


@dataclass(frozen=True)
class Layout:
    """What the base's attention says of one picture: `maps` (N, h, w), one for each concept, and `features` (h w, d),
    what self-attention gave each cell."""

    maps: Tensor
    features: Tensor


@torch.no_grad()
def base_layouts(
    pipe: Any, text: str, seeds: Sequence[int], *, loras: Source, steps: int, guidance: float, until: int
) -> list[Layout]:
    """The layouts after `until` of `steps` plain steps without LoRAs; `seeds` are consecutive and make one batch."""
    library = LoraLibrary(loras)
    composition = analyze(text, evidence=evidence_of_files(library.path))
    sampling = Sampling(steps, guidance).checked(pipe)
    given = prepare(pipe, [composition] * len(seeds), library, Settings(), sampling)
    latents = initial_latents(pipe, sampling, seeds)
    row_loras, probe = RowLoras("unet", pipe.unet, given.sets), AttentionProbe(pipe.unet)
    denoiser, size = DiffusersDenoiser(pipe, row_loras, given, sampling), (latents.shape[-2], latents.shape[-1])
    grid = probe.family.map_grid(*size)
    pipe.scheduler.set_timesteps(steps, device=latents.device)
    latents = latents * pipe.scheduler.init_noise_sigma
    with ExitStack() as stack:
        for block in (row_loras.installed(), probe.installed()):
            stack.enter_context(block)
        features = stack.enter_context(_self_attention(pipe.unet, grid[0] * grid[1]))
        for step, timestep in enumerate(pipe.scheduler.timesteps[:until]):
            at, count = denoiser.at(step, timestep), len(seeds)
            features.clear()
            rows = tuple(sorted(base_rows(rows_of(at.now.plans)), key=lambda row: not row.conditional))
            columns = needed_columns(at.now.plans)
            forward = partial(at.predict, latent_rows(latents, rows), rows)
            maps, out, _ = probe.collect(size, columns, forward)
            assert out is not None
            noise = guide(out[count:], out[:count], guidance)
            latents = pipe.scheduler.step(noise, timestep, latents, return_dict=False)[0]
    cells = torch.cat(features, dim=-1)
    own = [[[columns.index(p) for p in concept.group[0]] for concept in plan.concepts] for plan in at.now.plans]
    return [
        Layout(torch.stack([maps[image, of].mean(0) for of in concepts]), cells[image])
        for image, concepts in enumerate(own)
    ]


@contextmanager
def _self_attention(unet: nn.Module, cells: int) -> Iterator[list[Tensor]]:
    """What the self-attention layers of the map grid give in a forward, (R, cells, d) each."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        if output.shape[1] == cells:
            kept.append(output.float())

    handles = [module.register_forward_hook(keep) for name, module in unet.named_modules() if name.endswith(".attn1")]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
