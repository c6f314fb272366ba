"""One job of the WebUI with CLoRA on: reads the prompts of each batch, attaches to each pass, keeps what to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from ..conditioning.batch import BatchConditioning, condition_batch
from ..engine.plans import MADE, Plan, PlanUse, check_active
from ..errors import CLoRAError
from ..fusion import strategy_class
from ..hosts import host_api
from ..hosts.model_factory import loaded_model
from ..hosts.preview import PreviewOverlay
from ..hosts.protocol import WebUIModel
from ..hosts.text_encoding import WebUITextEncoder
from ..lora.library import LoraLibrary
from ..models import family_of
from ..prompt import Composition, analyze
from ..prompt.evidence import evidence_of_files
from ..prompt.own_words import readable_by_host
from ..regions.masks import concept_masks
from ..settings import Settings
from ..settings.schedule import schedule
from ..ui.request import Request
from . import planning
from .batch_prompts import BatchPrompts, batch_prompts
from .sampling_pass import Outcome, SamplingPass
from .shown import Drawn, Shown, shown_of

ONLY_FIRST_PASS = (
    "CLoRA composes the first pass only. About the hires prompt: {why} To compose it too, leave it empty, or write the "
    "same LoRA tags into it."
)


@dataclass
class Generation:
    """The state of one job of the host, dropped with the job; `detailed` are the numbers of the pictures whose detail
    pass has begun.
    """

    request: Request
    job: Any
    prompts: BatchPrompts = field(default_factory=BatchPrompts)
    hires_prompts: BatchPrompts = field(default_factory=BatchPrompts)
    first_pass: Outcome | None = None
    shown: list[Shown | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stop_following: Callable[[], None] = lambda: None
    detailed: set[int] = field(default_factory=set)
    _library: LoraLibrary | None = None
    _pass: SamplingPass | None = None
    _detach: Callable[[], None] | None = None
    _hires_prompts: tuple[int, list[str]] | None = None
    _drawn: bool = False

    # ------------------------------------------------------------------------------------------- prompts

    def read_batch(self, p: Any, prompts: list[str], start: int) -> None:
        """Read the batch's prompts and remove CLoRA's tags from them, in place, before the host parses them.

        Raises: CLoRAError for a prompt that cannot be composed; nothing is changed then.
        """
        self.end_pass()
        self.first_pass, self._drawn = None, False
        loras = host_api.HostLoras()
        negatives = list(p.negative_prompts)
        compositions = [self._read(text, n, loras) for text, n in zip(prompts, negatives, strict=True)]
        hires = list(getattr(p, "all_hr_prompts", None) or []) if getattr(p, "enable_hr", False) else []
        own = hires[start : start + len(prompts)]
        of_hires = [self._read(text, n, loras) for text, n in zip(own, negatives, strict=False)]
        settings = self.request.settings
        # A refiner draws without CLoRA: it gets the styles from the host.
        refined = getattr(p, "refiner_checkpoint_info", None) is not None
        late = settings.method == "clora" and settings.style_from > 0.0 and not refined
        self.prompts, self.hires_prompts, notes = batch_prompts(compositions, of_hires, late_styles=late)
        if planning.only_plans(self.request) and not self.composes:
            check_active(compositions[0].note)
        self.notes += [note for note in notes if note not in self.notes]
        if self.composes and self.request.settings.hires:
            whys = [other.note for other, one in zip(of_hires, self.prompts.composed, strict=False) if one]
            self.notes += [ONLY_FIRST_PASS.format(why=why) for why in whys if why]
        prompts[:] = self.prompts.host_texts
        drawn = self.hires_prompts.drawn_by_clora
        texts = self.hires_prompts.host_texts if drawn else list(map(readable_by_host, own))
        if drawn or texts != own:
            self._hires_prompts = (start, own)
            p.all_hr_prompts[start : start + len(own)] = texts

    def leave(self, why: str) -> None:
        """Leave this batch to the host. Raises: CLoRAError for a job that only plans."""
        if planning.only_plans(self.request):
            raise CLoRAError(f"Plan: there is nothing to plan. {why}")
        self.end_pass()
        self.prompts = self.hires_prompts = BatchPrompts()
        self.first_pass, self._drawn = None, False
        self.notes.append(why)

    def _read(self, text: str, negative: str, loras: host_api.HostLoras) -> Composition:
        composition = analyze(
            text, negative, evidence=evidence_of_files(loras.__getitem__), overrides=self.request.corrections,
            drop_other_tags=True,
        )  # fmt: skip
        if composition.composes:
            self.notes += check_names(composition, loras)
        return composition

    @property
    def composes(self) -> bool:
        """Whether CLoRA is active for this batch."""
        return any(self.prompts.composed)

    def restore_prompts(self, p: Any) -> None:
        """Put the hires prompts back, because the host writes them into the infotext."""
        if self._hires_prompts is not None:
            start, own = self._hires_prompts
            p.all_hr_prompts[start : start + len(own)] = own
            self._hires_prompts = None

    def hashes(self, host_text: str) -> str:
        """ "Lora hashes" of the infotext: the host's own, then every LoRA that CLoRA uses."""
        loras, known = host_api.HostLoras(), dict(part.split(": ", 1) for part in host_text.split(", ") if ": " in part)
        composed = [variant for one in self.prompts.compositions for variant in one.variants]
        for use in (*(use for variant in composed for use in variant.loras), *self.prompts.left):
            if use.name in loras:  # one that is left to the host may have no file
                known.setdefault(use.name.translate(str.maketrans("", "", ":,")), loras.short_hash(use.name))
        return ", ".join(f"{name}: {value}" for name, value in known.items() if value)

    # -------------------------------------------------------------------------------------------- passes

    def begin_pass(self, p: Any, latent: Tensor | None) -> None:
        """Attach CLoRA to the sampler of the pass that begins; its `latent` (B, C, h, w) gives the picture's size."""
        self.end_pass()
        hires = bool(getattr(p, "is_hr_pass", False))
        settings = self.request.settings
        masked = strategy_class(settings).needs_masks
        masks = None
        if hires and masked and self.first_pass is not None:
            of_images = zip(self.first_pass.masks, self.prompts.compositions, strict=False)
            masks = [concept_masks(mask, len(one.concepts)) for mask, one in of_images if mask is not None]
            settings = settings.replace(look_ahead=0.0)  # subjects without a LoRA are there already
        # Without masks, a refiner took over before there were any.
        plain = hires and not (settings.hires and any(self.hires_prompts.composed) and masks != [])
        if plain:
            if not self.hires_prompts.applied_by_clora:
                return
            settings, masks, masked = settings.replace(method="merge"), None, False
        model = loaded_model()
        model.check(settings)
        conditioning = self._condition(p, model, latent, settings, hires=hires, plain=plain)
        self.notes.extend(conditioning.warnings)
        shows = settings.preview_masks and masked and self.prompts.composed[0]
        preview = partial(self._preview, PreviewOverlay()) if shows else None
        self._pass = SamplingPass(
            model, conditioning, settings, p.sampler.model_wrap_cfg, masks=masks, watch=self._watch, preview=preview,
            failed=self.release, guidance_scale=host_api.guidance_scale(p, hires),
            plan=None if hires else self._plan_of(p),
        )  # fmt: skip
        self._detach = model.attach(p, self._pass, self._pass.denoiser)

    def _plan_of(self, p: Any) -> PlanUse | None:
        """What this batch does with a plan, which is always of a job's first; a job that only plans ends with it."""
        if self.request.plan is None or getattr(p, "iteration", 0) > 0:
            return None
        settings = self.request.settings

        def done(plan: Plan, masks: tuple[Tensor, ...]) -> None:
            assert self._pass is not None
            self._pass.outcome.masks = masks
            count = schedule(settings, p.steps).look_ahead
            self.notes.append(MADE.format(count=count, steps=p.steps))
            planning.end_with(p, plan)

        about = planning.about(p, self.prompts.host_texts, settings.look_ahead)
        return PlanUse(self.request.plan, planning.PLANS, about, self.notes, done)

    def _condition(
        self, p: Any, model: WebUIModel, latent: Tensor | None, settings: Settings, *, hires: bool, plain: bool
    ) -> BatchConditioning:
        """Encode the variants of a pass with the host's text encoders; a `plain` pass composes nothing."""
        prompts = self.hires_prompts if hires else self.prompts
        factor = family_of(model.unet).spatial_factor
        size = (p.width, p.height) if latent is None else (latent.shape[-1] * factor, latent.shape[-2] * factor)
        self._library = self._library or LoraLibrary(host_api.HostLoras())
        encoder = WebUITextEncoder(model, size, self.notes.append)
        return condition_batch(
            encoder, encoder.components, prompts.compositions, prompts.variants(settings, base_only=plain),
            self._library, settings, host_api.prompt_steps(p, hires), prompts.left,
        )  # fmt: skip

    def _preview(self, overlay: PreviewOverlay, outcome: Outcome) -> None:
        """Draw the masks of the batch's first picture over the host's live preview."""
        if outcome.masks and outcome.masks[0] is not None:
            localized = outcome.localized or (self.first_pass.localized if self.first_pass else ())
            # Made only if the host previews this evaluation: masks are copied from the GPU.
            first = self.prompts.compositions[0]
            overlay.draw(lambda image: shown_of(replace(outcome, localized=localized), 0, first).over(image))

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
        for image, (composition, own) in enumerate(zip(self.prompts.compositions, self.prompts.composed, strict=True)):
            self.shown.append(shown_of(outcome, image, composition) if own and outcome is not None else None)
        self._drawn = True

    def of_batch(self, image: int) -> Drawn | None:
        """Picture `image` of the batch that was drawn last, None if CLoRA has not composed it."""
        compositions = self.prompts.compositions
        if not self._drawn or not image < len(compositions):
            return None
        shown = self.shown[image - len(compositions)]
        return None if shown is None else Drawn(compositions[image], shown)

    @property
    def ended(self) -> str:
        """Why CLoRA ended before the pass did, if it did."""
        return self._pass.outcome.ended if self._pass else self.first_pass.ended if self.first_pass else ""


def check_names(composition: Composition, loras: host_api.HostLoras) -> list[str]:
    """Notes on LoRAs that are left to the host and do not exist.

    Raises: CLoRAError for another LoRA that does not exist, with the nearest names, before anything is loaded.
    """
    library = LoraLibrary(loras)
    for variant in composition.variants:
        for use in variant.loras:
            library.path(use.name)
    return library.notes_on_missing(composition.left)
