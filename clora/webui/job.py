"""One job of the WebUI with CLoRA on: prompts read per batch, passes attached to the sampler, pictures afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..engine.record import ConceptMaps
from ..errors import CLoRAError
from ..hosts import host_api
from ..hosts.model_factory import loaded_model
from ..hosts.preview import draw_over
from ..lora.library import LoraLibrary
from ..pictures import masks_overlay
from ..prompt import Composition, analyze
from ..prompt.region import Region
from ..ui.request import Request
from ..webui.texts import Length, encode_texts
from .sampling_pass import Outcome, SamplingPass


@dataclass
class Shown:
    """What one picture has to show: final masks (V, h, w), maps, losses, refine marks; names and places to it."""

    masks: Tensor | None
    maps: list[tuple[str, ConceptMaps]]
    labels: tuple[str, ...]
    variants: tuple[str, ...]
    losses: tuple[float, ...]
    refined: tuple[int, ...]
    places: tuple[Region | None, ...] = ()
    found: Tensor | None = None

    def over(self, picture: Any) -> Any:
        """The picture with the masks over it, None without masks."""
        if self.masks is None:
            return None
        return masks_overlay(picture, self.masks, self.labels, self.places, self.found)


@dataclass
class Generation:
    """State of one job; nothing of it outlives the job."""

    request: Request
    compositions: tuple[Composition, ...] = ()
    hires_compositions: tuple[Composition, ...] = ()
    first_pass: Outcome | None = None
    shown: list[Shown] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _library: LoraLibrary | None = None
    _pass: SamplingPass | None = None
    _detach: Callable[[], None] | None = None
    _hosts_hires: tuple[int, list[str]] | None = None

    # ------------------------------------------------------------------------------------------- prompts

    def read_batch(self, p: Any, prompts: list[str], start: int) -> None:
        """Read the batch's prompts and take CLoRA's tags out of them, in place, before the host parses them.

        Errors: CLoRAError for a prompt that cannot be composed; nothing is changed then.
        """
        self.end_pass()
        self.first_pass = None
        loras = host_api.HostLoras()
        negatives = list(p.negative_prompts)
        found = tuple(self._read(text, n, loras) for text, n in zip(prompts, negatives, strict=True))
        if len({one.composes for one in found}) > 1:
            raise CLoRAError("Some prompts of the batch name two or more concepts and some do not: run them apart.")
        hires = list(getattr(p, "all_hr_prompts", None) or []) if getattr(p, "enable_hr", False) else []
        own = hires[start : start + len(prompts)]
        of_hires = tuple(self._read(text, n, loras) for text, n in zip(own, negatives, strict=False))
        self.compositions = found
        self.hires_compositions = of_hires if all(one.composes for one in of_hires) else ()
        for one, again in zip(found, self.hires_compositions, strict=False):
            if one.composes and len(again.concepts) != len(one.concepts):
                raise CLoRAError(
                    f"The hires prompt names {len(again.concepts)} concepts and the prompt {len(one.concepts)}: the "
                    "hires pass uses the masks of the first pass, so give both prompts the same concepts."
                )
        for one in found:
            self.notes.extend((one.note,) if one.note else one.warnings)
        if not self.composes:
            return
        prompts[:] = [one.host_text for one in found]
        if self.hires_compositions:
            self._hosts_hires = (start, own)
            p.all_hr_prompts[start : start + len(own)] = [one.host_text for one in of_hires]

    def _read(self, text: str, negative: str, loras: host_api.HostLoras) -> Composition:
        composition = analyze(
            text, negative, activation_text=loras.activation_texts, overrides=self.request.corrections,
            drop_other_tags=True,
        )  # fmt: skip
        if composition.composes:
            check_names(composition, loras)
        return composition

    @property
    def composes(self) -> bool:
        """Whether this batch is composed at all."""
        return bool(self.compositions) and self.compositions[0].composes

    def give_prompts_back(self, p: Any) -> None:
        """The hires prompts as they were: the host writes them into the infotext."""
        if self._hosts_hires is not None:
            start, own = self._hosts_hires
            p.all_hr_prompts[start : start + len(own)] = own
            self._hosts_hires = None

    def hashes(self, host_text: str) -> str:
        """ "Lora hashes" of the infotext: the host's own, then every LoRA that CLoRA uses."""
        loras, known = host_api.HostLoras(), dict(part.split(": ", 1) for part in host_text.split(", ") if ": " in part)
        for composition in self.compositions:
            for variant in composition.variants:
                for use in variant.loras:
                    known.setdefault(use.name.translate(str.maketrans("", "", ":,")), loras.short_hash(use.name))
        return ", ".join(f"{name}: {value}" for name, value in known.items() if value)

    # -------------------------------------------------------------------------------------------- passes

    def begin_pass(self, p: Any, size: tuple[int, int]) -> None:
        """Attach CLoRA to the sampler of the pass that begins, for a picture of `size` (width, height)."""
        self.end_pass()
        hires = bool(getattr(p, "is_hr_pass", False))
        settings = self.request.settings
        if hires and not (settings.hires and self.hires_compositions):
            return
        compositions = self.hires_compositions if hires else self.compositions
        model = loaded_model()
        model.check(settings)
        length = Length(host_api.calls_of(p, hires), host_api.calls_of(p, False) if hires else None)
        self._library = self._library or LoraLibrary(host_api.HostLoras())
        texts = encode_texts(model, compositions, self._library, settings, length, size)
        self.notes.extend(texts.warnings)
        masks = None
        if hires and self.first_pass is not None and settings.method == "clora":
            masks = [mask for mask in self.first_pass.masks if mask is not None] or None
            if masks is None:
                return
        preview = self._preview if settings.preview_masks and settings.method == "clora" else None
        self._pass = SamplingPass(
            model, texts, settings, p.sampler.model_wrap_cfg, masks=masks, watch=self._watch, preview=preview
        )
        self._detach = model.attach(p, self._pass, self._pass.denoiser)

    def _preview(self, outcome: Outcome) -> None:
        """The host's live preview with the masks of the batch's first picture over it."""
        if outcome.masks and outcome.masks[0] is not None:
            found = outcome.found or (self.first_pass.found if self.first_pass else ())
            draw_over(lambda picture: _shown(replace(outcome, found=found), 0, self.compositions[0]).over(picture))

    @staticmethod
    def _watch(text: str) -> None:
        host_api.stop_if_interrupted()
        host_api.tell_progress(text)

    def end_pass(self) -> None:
        """Take every hook away; keeps what the pass found."""
        if self._detach is not None:
            self._detach()
        if self._pass is not None:
            outcome = self._pass.outcome
            self.first_pass = self.first_pass or outcome
            self.notes.extend(outcome.warnings)
        self._pass = self._detach = None

    def end_batch(self) -> None:
        """After the last pass of a batch: what its pictures have to show."""
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
    """What a pass leaves to be shown of one picture."""
    record = outcome.record
    masks, found = (of[image] if image < len(of) else None for of in (outcome.masks, outcome.found))
    return Shown(
        None if masks is None else masks.float().cpu(), record.strip(image) if record else [],
        tuple(concept.label for concept in composition.concepts), composition.variant_names,
        tuple(record.losses) if record else (), tuple(record.refined) if record else (),
        tuple(concept.region for concept in composition.concepts), None if found is None else found.float().cpu(),
    )  # fmt: skip


def check_names(composition: Composition, loras: host_api.HostLoras) -> None:
    """Errors: CLoRAError naming a LoRA that does not exist and the nearest names, before anything is loaded."""
    library = LoraLibrary(loras)
    for variant in composition.variants:
        for use in variant.loras:
            library.path(use.name)
