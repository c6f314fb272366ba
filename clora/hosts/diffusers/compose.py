"""Prompt and LoRA files -> pictures with a diffusers pipeline: the function a Python user calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...conditioning.batch import BatchConditioning, condition_batch
from ...conditioning.timetable import PromptSteps
from ...engine.composer import Observer
from ...engine.plans import PlanMade, PlanUse
from ...errors import CLoRAError, printable, shown
from ...fusion import variants_of
from ...lora.library import LoraLibrary, Source
from ...prompt import Composition, WordsOverride, analyze
from ...prompt.evidence import evidence_of_files
from ...regions.masks import concept_masks
from ...settings import Settings
from .sampling import Sampling, check_pipeline, decode, initial_latents, sample
from .text import TextEncoding


@dataclass(frozen=True)
class Composed:
    """The pictures of one run and what made them.

    `masks[image]` (V, h, w) are the last step's masks, None without CLoRA; `found[image]` (V, h, w) is where subjects
    with a region were localized, None without regions (`clora.regions.localization`). `warnings` are for the user.
    """

    images: list[Any]
    masks: tuple[Tensor | None, ...]
    compositions: tuple[Composition, ...]
    settings: Settings
    sampling: Sampling
    seeds: tuple[int, ...]
    warnings: tuple[str, ...]
    latents: Tensor
    found: tuple[Tensor | None, ...] = ()


def components_of(pipe: Any) -> dict[str, nn.Module]:
    """The modules of a pipeline that LoRAs may change, by component name."""
    names = ("unet", "text_encoder", "text_encoder_2")
    return {name: getattr(pipe, name) for name in names if getattr(pipe, name, None) is not None}


def compose(
    pipe: Any, prompt: str | Sequence[str], *, loras: Source, negative_prompt: str = "", seed: int = 0,
    steps: int = 30, guidance: float = 7.5, guidance_rescale: float = 0.0, width: int = 0, height: int = 0,
    clip_skip: int = 0, settings: Settings | None = None, observer: Observer | None = None,
    corrections: Mapping[str, WordsOverride] | None = None, plan: PlanUse | None = None,
) -> Composed:  # fmt: skip
    """Compose the LoRAs of `prompt` (or one prompt per image of a batch) and return the pictures.

    `loras` is a folder, several folders, or a mapping of names to files. Image i of a batch has the seed `seed + i`.
    `corrections` give by LoRA name what the tags leave out: words, trigger, role, place, or a painted place.
    `plan` says what the run does with a plan; if it only plans, the pictures are the plan's rough ones.
    Raises: CLoRAError with a message for the user. All but NaN and a lack of memory are found before sampling.
    """
    settings = settings or Settings()
    prompts = [printable(one) for one in ([prompt] if isinstance(prompt, str) else prompt)]
    negative_prompt = printable(negative_prompt)
    check_pipeline(pipe)
    if not 0 <= seed <= 2**63 - len(prompts):
        raise CLoRAError(f"The seed {shown(seed)} is out of range: use a whole number from 0 to 2^63 - {len(prompts)}.")
    sampling = Sampling(steps, guidance, guidance_rescale, width, height).checked(pipe)
    with torch.inference_mode(False), _offloaded_again(pipe):
        library = LoraLibrary(loras)
        compositions = _read(prompts, negative_prompt, library, corrections)
        if not any(one.composes for one in compositions):
            settings = settings.replace(method="merge")
        conditioning = prepare(pipe, compositions, library, settings, sampling, clip_skip)
        seeds = tuple(seed + index for index in range(len(prompts)))
        generators = [torch.Generator("cpu").manual_seed(one) for one in seeds]
        latents = initial_latents(pipe, sampling, seeds)
        masks, localized = tuple[Tensor | None, ...](), tuple[Tensor | None, ...]()
        warnings: list[str] = []
        try:
            for step, after in sample(
                pipe, conditioning, latents, settings, sampling, generators=generators, observer=observer,
                warnings=warnings, plan=plan,
            ):  # fmt: skip
                latents, masks, localized = after, step.masks, step.localized
        except PlanMade as made:
            latents, masks, localized = made.plan.rough, made.masks, ()
        _check_finite(latents)
        images = decode(pipe, latents)
    masks = tuple(
        concept_masks(mask, len(one.concepts)) if mask is not None and one.composes else None
        for mask, one in zip(masks, compositions, strict=True)
    )
    of_run = [*conditioning.warnings, *warnings, *(plan.notes if plan else [])]
    notices = tuple(dict.fromkeys([*_of_prompts(compositions), *of_run]))
    return Composed(images, masks, compositions, settings, sampling, seeds, notices, latents, localized)


def _check_finite(latents: Tensor) -> None:
    """Raises: CLoRAError for finished latents (B, C, h, w) that are no pictures."""
    if not bool(torch.isfinite(latents).all()):
        raise CLoRAError(
            "The latent holds NaN or infinite values after the last step, so there is no picture; "
            "use float32, fewer or other steps, or a smaller update strength."
        )


def _of_prompts(compositions: Sequence[Composition]) -> list[str]:
    """Why CLoRA is inactive for prompts of a batch, and their warnings."""
    notes = [note for number, one in enumerate(compositions, start=1) if (note := _note(number, one, compositions))]
    return [*notes, *(warning for composition in compositions for warning in composition.warnings)]


@contextmanager
def _offloaded_again(pipe: Any) -> Iterator[None]:
    """After this block the models of a pipeline with offloading are on the CPU, as after the pipeline's own call."""
    try:
        yield
    finally:
        pipe.maybe_free_model_hooks()


def _read(
    prompts: Sequence[str], negative: str, library: LoraLibrary, corrections: Mapping[str, WordsOverride] | None
) -> tuple[Composition, ...]:
    """The prompts of a batch; one that does not compose is drawn beside the others, with all of its LoRAs on."""
    return tuple(
        analyze(text, negative, evidence=evidence_of_files(library.path), overrides=corrections) for text in prompts
    )


def _note(number: int, one: Composition, batch: Sequence[Composition]) -> str:
    """Why CLoRA is inactive for a prompt, "" if it is not."""
    beside = any(other.composes for other in batch)
    return f"Image {number} of the batch: {one.note}" if one.note and beside else one.note


def prepare(
    pipe: Any, compositions: Sequence[Composition], library: LoraLibrary, settings: Settings, sampling: Sampling,
    clip_skip: int = 0,
) -> BatchConditioning:  # fmt: skip
    """LoRA sets, contexts and plans of every step for a batch of compositions."""
    # No other host is there to load styles and role=off: they are on in every variant.
    variants = [variants_of(one, settings, (*one.styles, *one.off)) for one in compositions]
    left = [use for one in compositions for use in one.left]
    return condition_batch(
        TextEncoding(pipe, clip_skip), components_of(pipe), compositions, variants, library, settings,
        PromptSteps(sampling.steps), left,
    )  # fmt: skip
