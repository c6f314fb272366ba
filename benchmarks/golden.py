"""Recomputes recorded runs of the authors' code through the engine: python -m benchmarks.golden [DIR] [--json].

DIR holds `model` (diffusers layout; `vae` may be missing), `loras` and `cases` (NAME.json with the authors' arguments,
NAME.safetensors with the recorded numbers). Without DIR, the recorded runs in tests/data/golden are used. Prints the
worst relative error (largest difference over largest value) per quantity.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from clora.attention.maps import AttentionMaps
from clora.conditioning.batch import BatchConditioning
from clora.conditioning.plan import ImagePlan, PlannedConcept
from clora.conditioning.timetable import Timetable
from clora.engine.composer import Event, Step, Updated
from clora.errors import CLoRAError
from clora.guidance.classifier_free import guide
from clora.hosts.diffusers import Sampling, Text, TextEncoding, components_of, sample
from clora.lora.library import LoraLibrary
from clora.models.denoiser import Row
from clora.models.lora import lora_targets
from clora.prompt import LoraUse, PromptTokens, ResolvedText
from clora.settings import Settings

RECORDED = Path(__file__).parents[1] / "tests" / "data" / "golden"
"""The recorded runs in this repository."""
DTYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}


def relative_error(ours: Tensor, recorded: Tensor) -> float:
    """max |ours - recorded| / max |recorded|."""
    scale = float(recorded.abs().max()) or 1.0
    return float((ours.double() - recorded.double()).abs().max()) / scale


@dataclass
class Errors:
    """Worst error per quantity; masks count differing places instead."""

    worst: dict[str, float] = field(default_factory=dict)

    def add(self, quantity: str, value: float) -> None:
        """Keep `value` if it is the worst so far (NaN is worse than anything)."""
        known = self.worst.get(quantity, 0.0)
        self.worst[quantity] = max(known, value) if value == value else float("inf")

    def merge(self, other: Errors) -> None:
        """Keep the worse of both for every quantity."""
        for quantity, value in other.worst.items():
            self.add(quantity, value)


class GoldenCase:
    """One recorded run: the authors' arguments, the recorded tensors, and our recomputation of them."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.info: dict[str, Any] = json.loads((folder / "cases" / f"{name}.json").read_text("utf-8"))
        self.recorded = load_file(folder / "cases" / f"{name}.safetensors")
        self.kwargs: dict[str, Any] = self.info["kwargs"]
        self.store: str = self.info["attention_store"]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the authors' code ran."""
        return DTYPES[self.info["dtype"]]

    def settings(self) -> Settings:
        """The authors' arguments as ours."""
        k = self.kwargs
        steps = k.get("num_inference_steps", 50)
        updates = k.get("max_iter_to_alter", 30) if k.get("latent_update", False) else 0
        return Settings(
            preset="paper",
            step_size=k.get("step_size", 20),
            update_until=min(1.0, updates / steps),
            refine_at=tuple(i / steps for i in k.get("iterative_steps", []) if i < steps),
            refine_updates=k.get("iterative_steps_steps", 20),
            fuse_from=min(1.0, k.get("apply_mask_after", 0) / steps),
            mask_threshold=k.get("mask_threshold_alpha", 0.3),
            mask_erode=k.get("mask_erode", False),
            mask_dilate=k.get("mask_dilate", False),
            mask_open=k.get("mask_opening", False),
            mask_close=k.get("mask_closing", False),
            maps="both" if self.store.startswith("cfg") else "conditional",
        )

    def sampling(self) -> Sampling:
        """Steps, guidance and size of the run."""
        k = self.kwargs
        return Sampling(
            k.get("num_inference_steps", 50), k.get("guidance_scale", 7.5), k.get("guidance_rescale", 0.0),
            k.get("width", 512), k.get("height", 512),
        )  # fmt: skip

    def plan(self) -> ImagePlan:
        """The text positions the authors' arguments give."""
        groups = tuple(tuple(tuple(t) for t in group) for group in self.kwargs["important_token_indices"])
        base, *own = (tuple(positions) for positions in self.kwargs["mask_indices"])
        concepts = tuple(PlannedConcept(group, mask) for group, mask in zip(groups, own, strict=True))
        return ImagePlan(len(own) + 1, concepts, base_mask=base)

    def uses(self, variant: int) -> tuple[LoraUse, ...]:
        """The LoRAs that are on in a variant, the style first."""
        scale = (self.kwargs.get("cross_attention_kwargs") or {}).get("scale", 1.0)
        with_text = self.kwargs.get("use_text_encoder_lora", False)
        name, style = self.kwargs["lora_list"][variant], self.kwargs.get("style_lora", "")
        uses = []
        if style:
            weight = scale * self.kwargs.get("style_lora_weight", 1.0)
            uses.append(LoraUse(style, weight, weight))
        if name:
            uses.append(LoraUse(name, scale if with_text else 0.0, scale))
        return tuple(uses)


def lora_files(folder: Path) -> dict[str, Path]:
    """LoRA name -> file; `name.kohya.safetensors` and `name.peft.safetensors` are the LoRA `name` (kohya's is used)."""
    found = {}
    for path in sorted((folder / "loras").glob("*.safetensors"), reverse=True):
        found[path.stem.removesuffix(".kohya").removesuffix(".peft")] = path
    return found


def load_pipeline(folder: Path, dtype: torch.dtype) -> Any:
    """The folder's model as a StableDiffusionPipeline; `model` holds its parts, each with its own configuration.

    Only latents are compared, so the VAE may be missing.
    """
    import diffusers
    from transformers import CLIPTextModel, CLIPTokenizer

    model = folder / "model"
    scheduler = json.loads((model / "scheduler" / "scheduler_config.json").read_text("utf-8"))["_class_name"]
    vae = model / "vae"
    return diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(vae, torch_dtype=dtype) if vae.is_dir() else None,
        text_encoder=CLIPTextModel.from_pretrained(model / "text_encoder", dtype=dtype),
        tokenizer=CLIPTokenizer.from_pretrained(model / "tokenizer"),
        unet=diffusers.UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=dtype),
        scheduler=getattr(diffusers, scheduler).from_pretrained(model / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def plain_tokens(tokenizer: Any, text: str) -> PromptTokens:
    """The text as the authors' code tokenizes it: one chunk, cut at 77, no emphasis and no scheduling."""
    ids = tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
    return PromptTokens((tuple(ids),), ((1.0,) * 77,), ((),) * 77)


def prepare_case(pipe: Any, case: GoldenCase, library: LoraLibrary, errors: Errors) -> BatchConditioning:
    """Encode the recorded prompts with our text encoding, and compare the embeddings and token ids."""
    prompts, negatives = case.kwargs["prompt_list"], case.kwargs["negative_prompt_list"]
    tables = lora_targets(components_of(pipe))
    sets = tuple(tuple(library.applied(use, tables) for use in case.uses(v)) for v in range(len(prompts)))
    encoding = TextEncoding(pipe, case.kwargs.get("clip_skip") or 0)
    rows = [Row(0, v, half) for v in range(len(prompts)) for half in (False, True)]
    texts = []
    for row in rows:
        text = (prompts if row.conditional else negatives)[row.variant]
        texts.append(Text(ResolvedText.whole(text), row.variant, tokens=plain_tokens(pipe.tokenizer, text)))
    encoded = encoding.encode(texts, sets)
    ours = torch.stack([e.context for e in encoded])
    errors.add("prompt embeddings", relative_error(ours, case.recorded["prompt_embeds"].flatten(0, 1)))
    ids = torch.tensor([text.tokens.chunks[0] for text in texts if text.tokens])
    errors.add("token ids (count)", float((ids != case.recorded["input_ids"].flatten(0, 1)).sum()))
    contexts = {row: Timetable.constant(one) for row, one in zip(rows, encoded, strict=True)}
    set_of = {(0, v): v for v in range(len(prompts))}
    return BatchConditioning(sets, set_of, contexts, (Timetable.constant(case.plan()),))


def recompute(pipe: Any, case: GoldenCase, library: LoraLibrary) -> Errors:
    """Run the case as far as it was recorded and compare every recorded quantity."""
    errors = Errors()
    prepared = prepare_case(pipe, case, library, errors)
    stored = next((t for key, t in case.recorded.items() if key.endswith("attention_maps")), None)
    columns = range(stored.shape[-1]) if stored is not None else ()
    sampling = case.sampling()
    # Official maps are (W/32, H/32): the recorded masks of non-square pictures are scrambled unless mended.
    order = "row-major" if case.store.endswith("fixres") else "authors"
    updates: list[Updated] = []

    def observe(event: Event) -> None:
        if isinstance(event, Updated):
            updates.append(event)

    run = sample(
        pipe, prepared, case.recorded["latents_init"], case.settings(), sampling,
        observer=observe, record_columns=columns, grid_order=order,
    )  # fmt: skip
    for index, (step, after) in zip(range(len(case.info["steps"])), run, strict=False):
        compare_step(case, index, step, updates, after, sampling, errors)
        updates.clear()
    run.close()  # type: ignore[attr-defined]
    return errors


def stacked_maps(maps: AttentionMaps, variants: int) -> Tensor:
    """All recorded columns of the maps, (V, a, b, K), as the authors' store lays them out."""
    return torch.stack([maps.of(0, v, maps.columns) for v in range(variants)]).permute(0, 2, 3, 1)


def compare_step(
    case: GoldenCase, index: int, step: Step, updates: list[Updated], after: Tensor, sampling: Sampling, errors: Errors
) -> None:
    """Compare one sampler step and all its passes."""
    variants = len(case.kwargs["prompt_list"])
    ours: dict[str, Tensor] = {}
    for number, update in enumerate(updates):
        key = f"step{index}/pass{number}"
        ours[f"{key}/attention_maps"] = stacked_maps(update.gradient.maps, variants)
        ours[f"{key}/loss"] = update.gradient.losses
        ours[f"{key}/grad"] = update.gradient.value
        ours[f"{key}/latent_before"], ours[f"{key}/latent_after"] = update.before, update.after
    last = f"step{index}/pass{max(len(updates) - 1, 0)}"
    if step.maps is not None:
        ours.setdefault(f"{last}/attention_maps", stacked_maps(step.maps, variants))
    ours[f"{last}/noise_preds"] = torch.stack(
        [torch.stack([step.prediction.rows[Row(0, v, half)] for half in (False, True)]) for v in range(variants)]
    )
    if step.masks[0] is not None:
        ours[f"step{index}/masks"] = step.masks[0]
    assert step.uncond is not None
    ours[f"step{index}/noise_pred"] = guide(step.uncond, step.cond, sampling.guidance, sampling.guidance_rescale)
    ours[f"step{index}/latent_in"], ours[f"step{index}/latent_out"] = step.latent, after
    for key, recorded in recorded_of(case, index):
        quantity = key.rsplit("/", 1)[-1]
        if key not in ours:
            errors.add(f"missing {quantity}", float("inf"))
        elif quantity == "masks":
            errors.add("masks (places)", float((ours[key] != recorded).sum()))
        else:
            errors.add(quantity, relative_error(ours[key], recorded))


def recorded_of(case: GoldenCase, index: int) -> Iterator[tuple[str, Tensor]]:
    """The recorded quantities of one step; single layers' probabilities are compared by the tests."""
    for key, value in case.recorded.items():
        if key.startswith(f"step{index}/") and "layer_probs" not in key:
            yield key, value


def run_folder(folder: Path, progress: Any = None) -> dict[str, Errors]:
    """Errors of every case of a folder, by case name."""
    names = sorted(path.stem for path in (folder / "cases").glob("*.json"))
    if not names:
        raise CLoRAError(f"{folder} holds no cases: give a folder with model, loras and cases/NAME.json in it.")
    library = LoraLibrary(lora_files(folder))
    pipes: dict[torch.dtype, Any] = {}
    results = {}
    for name in names:
        case = GoldenCase(folder, name)
        if case.dtype not in pipes:
            pipes[case.dtype] = load_pipeline(folder, case.dtype)
        results[name] = recompute(pipes[case.dtype], case, library)
        if progress:
            progress(f"{name}: {max(results[name].worst.values()):.1e}")
    return results


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `python -m benchmarks.golden`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=RECORDED)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    try:
        results = run_folder(options.folder, None if options.json else lambda line: print(line, file=sys.stderr))
    except (CLoRAError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    total = Errors()
    for errors in results.values():
        total.merge(errors)
    if options.json:
        print(json.dumps({"worst": total.worst, "cases": {n: e.worst for n, e in results.items()}}, indent=1))
        return 0
    print(f"{len(results)} cases; worst relative error (masks, token ids: how many differ)")
    for quantity, value in sorted(total.worst.items()):
        print(f"  {quantity:20} {value:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
