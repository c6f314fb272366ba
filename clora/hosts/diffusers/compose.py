"""Prompt and LoRA files -> pictures with a diffusers pipeline: the function a Python user calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...conditioning.lora_sets import lora_sets
from ...conditioning.plan import plan_image
from ...engine.composer import Observer
from ...errors import CLoRAError
from ...fusion import variants_of
from ...lora.library import LoraLibrary, Source
from ...lora.resolve import AppliedLora
from ...models.denoiser import Row
from ...prompt import Composition, ResolvedText, Variant, WordsOverride, analyze, schedule, scheduled_positions
from ...settings import Settings
from .sampling import Conditioning, Prepared, Sampling, check_pipeline, decode, initial_latents, sample
from .text import Encoded, Text, TextEncoding


@dataclass(frozen=True)
class Composed:
    """The pictures of one run and what made them.

    `masks[image]` (V, h, w) are the last step's masks, None without CLoRA; `found[image]` (V, h, w) is where subjects
    with a place were found in it, None without places (`clora.regions.localization`). `warnings` are for the user.
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
    corrections: Mapping[str, WordsOverride] | None = None,
) -> Composed:  # fmt: skip
    """Compose the LoRAs of `prompt` (or one prompt per image of a batch) and return the pictures.

    `loras` is a folder, several, or a mapping of names to files. Image i of a batch has the seed `seed + i`.
    `corrections` say by LoRA name what the tags do not: words, trigger, role, place, or a painted place.
    Errors: CLoRAError, one sentence for the user, before anything is sampled.
    """
    settings = settings or Settings()
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    check_pipeline(pipe)
    if not 0 <= seed <= 2**63 - len(prompts):
        raise CLoRAError(f"The seed {seed} is out of range: use a whole number from 0 to 2^63 - {len(prompts)}.")
    sampling = Sampling(steps, guidance, guidance_rescale, width, height).checked(pipe)
    with torch.inference_mode(False):
        library = LoraLibrary(loras)
        compositions = tuple(
            analyze(text, negative_prompt, activation_text=library.trigger_phrases, overrides=corrections)
            for text in prompts
        )
        if len({composition.composes for composition in compositions}) > 1:
            raise CLoRAError("Some prompts of the batch name two or more concepts and some do not: run them apart.")
        if not compositions[0].composes:
            settings = settings.replace(method="merge")
        prepared = prepare(pipe, compositions, library, settings, sampling, clip_skip)
        seeds = tuple(seed + index for index in range(len(prompts)))
        generators = [torch.Generator("cpu").manual_seed(one) for one in seeds]
        latents = initial_latents(pipe, sampling, seeds)
        masks, found = tuple[Tensor | None, ...](), tuple[Tensor | None, ...]()
        warnings: list[str] = []
        for step, after in sample(
            pipe, prepared, latents, settings, sampling, generators=generators, observer=observer, warnings=warnings
        ):
            latents, masks, found = after, step.masks, step.localized
        if not bool(torch.isfinite(latents).all()):
            raise CLoRAError(
                "The latent holds NaN or infinite values after the last step, so there is no picture; "
                "use float32, fewer or other steps, or a smaller update strength."
            )
        images = decode(pipe, latents)
    notes = [composition.note for composition in compositions if composition.note]
    told = tuple(
        dict.fromkeys([*notes, *(w for c in compositions for w in c.warnings), *library_warnings(prepared), *warnings])
    )
    return Composed(images, masks, compositions, settings, sampling, seeds, told, latents, found)


def library_warnings(prepared: Prepared) -> list[str]:
    """What the LoRA files hold that could not be applied, one sentence per file."""
    return [lora.warning for one in prepared.sets for lora in one if lora.warning]


def prepare(
    pipe: Any, compositions: Sequence[Composition], library: LoraLibrary, settings: Settings, sampling: Sampling,
    clip_skip: int = 0,
) -> Prepared:  # fmt: skip
    """LoRA sets, contexts and plans of every step for a batch of compositions."""
    variants = [variants_of(one, settings, (*one.styles, *one.off)) for one in compositions]
    sets, set_of = lora_sets(variants, library, components_of(pipe))
    timetables: dict[Row, Timetable] = {
        Row(image, number, half): schedule(variant.text if half else variant.negative, sampling.steps)
        for image, own in enumerate(variants)
        for number, variant in enumerate(own)
        for half in (True, False)
    }
    encoded = _encode(pipe, timetables, set_of, sets, clip_skip)
    if settings.method == "clora":
        _check_words(compositions, timetables, encoded)
    steps = [
        _conditioning(step, timetables, encoded, compositions, variants, settings) for step in range(sampling.steps)
    ]
    return Prepared(sets, set_of, tuple(steps))


Timetable = Sequence[tuple[int, ResolvedText]]


def _active(timetable: Timetable, step: int) -> int:
    """Index of the text that holds at `step` (0-based) of a timetable of (last step, text)."""
    return next((i for i, (until, _) in enumerate(timetable) if step < until), len(timetable) - 1)


def _encode(
    pipe: Any, timetables: dict[Row, Timetable], set_of: dict[tuple[int, int], int],
    sets: Sequence[Sequence[AppliedLora]], clip_skip: int,
) -> dict[tuple[Row, int], Encoded]:  # fmt: skip
    """Every scheduled text of every row encoded once; rows with the same text and LoRAs share it."""
    zeros = bool(getattr(pipe.config, "force_zeros_for_empty_prompt", False))
    wanted: dict[tuple[Row, int], Text] = {}
    for row, timetable in timetables.items():
        for piece, (_, text) in enumerate(timetable):
            empty = zeros and not row.conditional and not str(text)
            wanted[row, piece] = Text(text, set_of[row.image, row.variant], empty)
    distinct = {(str(t.resolved), t.lora_set, t.empty): t for t in wanted.values()}
    results = TextEncoding(pipe, clip_skip).encode(list(distinct.values()), sets)
    by_key = dict(zip(distinct, results, strict=True))
    return {key: by_key[str(t.resolved), t.lora_set, t.empty] for key, t in wanted.items()}


def _conditioning(
    step: int, timetables: dict[Row, Timetable], encoded: dict[tuple[Row, int], Encoded],
    compositions: Sequence[Composition], variants: Sequence[Sequence[Variant]], settings: Settings,
) -> Conditioning:  # fmt: skip
    now = {row: encoded[row, _active(timetable, step)] for row, timetable in timetables.items()}
    plans = tuple(
        plan_image(one, own, [now[Row(image, number, True)].tokens for number in range(len(own))], settings)
        for image, (one, own) in enumerate(zip(compositions, variants, strict=True))
    )
    return Conditioning(now, plans)


def _check_words(
    compositions: Sequence[Composition], timetables: Mapping[Row, Timetable], encoded: Mapping[tuple[Row, int], Encoded]
) -> None:
    """Errors: CLoRAError when a concept's words stand in its variant's text at no step (scheduled away, say)."""
    for image, composition in enumerate(compositions):
        for number, concept in enumerate(composition.concepts, start=1):
            row = Row(image, number, True)
            layouts = [encoded[row, piece].tokens for piece in range(len(timetables[row]))]
            scheduled_positions(layouts, composition.variants[number].subjects[number - 1], concept.words)
