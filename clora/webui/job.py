"""One job of the WebUI with CLoRA on: reads the prompts of each batch, attaches to each pass, keeps what to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..conditioning.batch import BatchConditioning, condition_batch
from ..engine.record import ConceptMaps, Curve
from ..errors import CLoRAError
from ..fusion import strategy_class, variants_of
from ..hosts import host_api
from ..hosts.model_factory import loaded_model
from ..hosts.preview import draw_over
from ..hosts.protocol import WebUIModel
from ..hosts.text_encoding import WebUITextEncoder
from ..lora.library import LoraLibrary
from ..models import family_of
from ..pictures import masks_overlay
from ..prompt import Composition, analyze
from ..prompt.evidence import evidence_of_files
from ..prompt.region import Region
from ..ui.request import Request
from .sampling_pass import Outcome, SamplingPass


@dataclass
class Shown:
    """What there is to show for one picture: final masks (V, h, w), attention maps, losses, and the concepts' names.

    `refined` are the numbers of the updates that were refine steps; `localized` (V, h, w) is where subjects with a
    region were localized.
    """

    masks: Tensor | None
    maps: list[tuple[str, ConceptMaps]]
    labels: tuple[str, ...]
    variants: tuple[str, ...]
    losses: tuple[float, ...]
    refined: tuple[int, ...]
    regions: tuple[Region | None, ...] = ()
    localized: Tensor | None = None

    def over(self, picture: Any) -> Any:
        """The picture with the masks over it, None without masks."""
        if self.masks is None:
            return None
        return masks_overlay(picture, self.masks, self.labels, self.regions, self.localized)


@dataclass
class Generation:
    """The state of one job, dropped with the job."""

    request: Request
    compositions: tuple[Composition, ...] = ()
    hires_compositions: tuple[Composition, ...] = ()
    first_pass: Outcome | None = None
    shown: list[Shown] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _library: LoraLibrary | None = None
    _pass: SamplingPass | None = None
    _detach: Callable[[], None] | None = None
    _hires_prompts: tuple[int, list[str]] | None = None

    # ------------------------------------------------------------------------------------------- prompts

    def read_batch(self, p: Any, prompts: list[str], start: int) -> None:
        """Read the batch's prompts and remove CLoRA's tags from them, in place, before the host parses them.

        Raises: CLoRAError for a prompt that cannot be composed; nothing is changed then.
        """
        self.end_pass()
        self.first_pass = None
        loras = host_api.HostLoras()
        negatives = list(p.negative_prompts)
        compositions = tuple(self._read(text, n, loras) for text, n in zip(prompts, negatives, strict=True))
        if len({one.composes for one in compositions}) > 1:
            raise CLoRAError(
                "Some prompts of the batch have two or more concepts and some have not: generate them separately."
            )
        hires = list(getattr(p, "all_hr_prompts", None) or []) if getattr(p, "enable_hr", False) else []
        own = hires[start : start + len(prompts)]
        of_hires = tuple(self._read(text, n, loras) for text, n in zip(own, negatives, strict=False))
        self.compositions = compositions
        self.hires_compositions = of_hires if all(one.composes for one in of_hires) else ()
        for one, other in zip(compositions, self.hires_compositions, strict=False):
            if one.composes and len(other.concepts) != len(one.concepts):
                raise CLoRAError(
                    f"The hires prompt has {len(other.concepts)} concepts, the prompt has {len(one.concepts)}: the "
                    "hires pass uses the masks of the first pass, so give both prompts the same concepts."
                )
        for one in compositions:
            self.notes.extend([*([one.note] if one.note else []), *one.warnings])
        self.notes.extend(note for one in self.hires_compositions for note in one.warnings if note not in self.notes)
        if not self.composes:
            return
        prompts[:] = [one.host_text for one in compositions]
        if self.hires_compositions:
            self._hires_prompts = (start, own)
            p.all_hr_prompts[start : start + len(own)] = [one.host_text for one in of_hires]

    def _read(self, text: str, negative: str, loras: host_api.HostLoras) -> Composition:
        composition = analyze(
            text, negative, evidence=evidence_of_files(loras.__getitem__), overrides=self.request.corrections,
            drop_other_tags=True,
        )  # fmt: skip
        if composition.composes:
            check_names(composition, loras)
        return composition

    @property
    def composes(self) -> bool:
        """Whether CLoRA is active for this batch."""
        return bool(self.compositions) and self.compositions[0].composes

    def restore_prompts(self, p: Any) -> None:
        """Put the hires prompts back, because the host writes them into the infotext."""
        if self._hires_prompts is not None:
            start, own = self._hires_prompts
            p.all_hr_prompts[start : start + len(own)] = own
            self._hires_prompts = None

    def hashes(self, host_text: str) -> str:
        """ "Lora hashes" of the infotext: the host's own, then every LoRA that CLoRA uses."""
        loras, known = host_api.HostLoras(), dict(part.split(": ", 1) for part in host_text.split(", ") if ": " in part)
        for composition in self.compositions:
            for variant in composition.variants:
                for use in variant.loras:
                    known.setdefault(use.name.translate(str.maketrans("", "", ":,")), loras.short_hash(use.name))
        return ", ".join(f"{name}: {value}" for name, value in known.items() if value)

    # -------------------------------------------------------------------------------------------- passes

    def begin_pass(self, p: Any, latent: Tensor | None) -> None:
        """Attach CLoRA to the sampler of the pass that begins; its `latent` (B, C, h, w) gives the picture's size."""
        self.end_pass()
        hires = bool(getattr(p, "is_hr_pass", False))
        settings = self.request.settings
        if hires and not (settings.hires and self.hires_compositions):
            return
        masked = strategy_class(settings).needs_masks
        masks = None
        if hires and masked and self.first_pass is not None:
            masks = [mask for mask in self.first_pass.masks if mask is not None]
            if not masks:  # a refiner took over before there were any
                return
        model = loaded_model()
        model.check(settings)
        conditioning = self._condition(p, hires, model, latent)
        self.notes.extend(conditioning.warnings)
        preview = self._preview if settings.preview_masks and masked else None
        self._pass = SamplingPass(
            model, conditioning, settings, p.sampler.model_wrap_cfg, masks=masks, watch=self._watch, preview=preview,
            failed=self.release,
        )  # fmt: skip
        self._detach = model.attach(p, self._pass, self._pass.denoiser)

    def _condition(self, p: Any, hires: bool, model: WebUIModel, latent: Tensor | None) -> BatchConditioning:
        """Encode the variants of a pass with the host's text encoders."""
        compositions = self.hires_compositions if hires else self.compositions
        settings, factor = self.request.settings, family_of(model.unet).spatial_factor
        size = (p.width, p.height) if latent is None else (latent.shape[-1] * factor, latent.shape[-2] * factor)
        self._library = self._library or LoraLibrary(host_api.HostLoras())
        encoder = WebUITextEncoder(model, size, self.notes.append)
        # Global styles and role=off are not in the variants: the host has them in its weights.
        variants = [variants_of(one, settings) for one in compositions]
        return condition_batch(
            encoder, encoder.components, compositions, variants, self._library, settings,
            host_api.prompt_steps(p, hires),
        )  # fmt: skip

    def _preview(self, outcome: Outcome) -> None:
        """Draw the masks of the batch's first picture over the host's live preview."""
        if outcome.masks and outcome.masks[0] is not None:
            localized = outcome.localized or (self.first_pass.localized if self.first_pass else ())
            # Made only if the host previews this evaluation: masks are copied from the GPU.
            draw_over(lambda image: _shown(replace(outcome, localized=localized), 0, self.compositions[0]).over(image))

    @staticmethod
    def _watch(text: str) -> None:
        host_api.stop_if_interrupted()
        host_api.show_progress(text)

    def end_pass(self) -> None:
        """Remove every hook; keep the outcome of the pass."""
        detach, sampling_pass = self._detach, self._pass
        self._pass = self._detach = None
        try:
            if detach is not None:
                detach()
        finally:
            if sampling_pass is not None:
                self.first_pass = self.first_pass or sampling_pass.outcome
                self.notes.extend(sampling_pass.outcome.warnings)

    def release(self) -> None:
        """End the pass and let go of the LoRA files: no script is called after a failed job."""
        self.end_pass()
        self._library = None

    def end_batch(self) -> None:
        """After the last pass of a batch: keep what there is to show for its pictures."""
        self.end_pass()
        outcome, self.first_pass = self.first_pass, None
        if outcome is None:
            return
        self.shown += [_shown(outcome, image, composition) for image, composition in enumerate(self.compositions)]

    @property
    def ended(self) -> str:
        """Why CLoRA ended before the pass did, if it did."""
        return self._pass.outcome.ended if self._pass else self.first_pass.ended if self.first_pass else ""


def _shown(outcome: Outcome, image: int, composition: Composition) -> Shown:
    """What there is to show for one picture of a pass."""
    record, curve = outcome.record, outcome.record.curve(image) if outcome.record else Curve()
    masks, localized = (of[image] if image < len(of) else None for of in (outcome.masks, outcome.localized))
    return Shown(
        None if masks is None else masks.float().cpu(), record.strip(image) if record else [],
        tuple(concept.label for concept in composition.concepts), composition.variant_names,
        tuple(curve.losses), tuple(curve.refined),
        tuple(concept.region for concept in composition.concepts),
        None if localized is None else localized.float().cpu(),
    )  # fmt: skip


def check_names(composition: Composition, loras: host_api.HostLoras) -> None:
    """Raises: CLoRAError for a LoRA that does not exist, with the nearest names, before anything is loaded."""
    library = LoraLibrary(loras)
    for variant in composition.variants:
        for use in variant.loras:
            library.path(use.name)
