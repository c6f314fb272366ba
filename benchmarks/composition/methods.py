"""The methods that are compared: a table of names, and how each draws pictures of a prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from PIL import Image

from benchmarks.characters.loratorio import in_place_of_composite
from benchmarks.composition.boxes import compose_in_boxes
from benchmarks.judge import Judge
from clora.embedded import EMBEDDED_GUIDANCE, EMBEDDED_LORAS, EMBEDDED_MODEL
from clora.hosts.diffusers import compose
from clora.hosts.diffusers.checkpoint import load_pipeline
from clora.settings import SETTINGS, Settings

# Keys hold the differences from these values, the defaults when the first pictures were drawn. Never change them. When
# the default of a setting that is not here changes, add its former default, so that old keys stay valid.
BASELINE: dict[str, Any] = {
    "method": "clora", "step_size": 20.0, "update_until": 0.5, "refine_at": (0.0, 0.2, 0.4), "refine_updates": 20,
    "refine_tolerance": 0.0, "update_cap": 0.0, "temperature": 0.5, "maps": "conditional", "noise": "fresh",
    "fuse_from": 0.0, "mask_words": "subject", "mask_threshold": 0.5, "mask_scale": "range", "mask_smooth": True,
    "mask_overlap": "argmax", "mask_dilate": False, "mask_erode": False, "mask_open": False, "mask_close": False,
    "mask_grid": "map", "fusion": "exact",
}  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """The model and the sampling that all methods share."""

    steps: int = 20
    guidance: float = EMBEDDED_GUIDANCE
    device: str = "cpu"

    @cached_property
    def pipe(self) -> Any:
        """The embedded model, loaded when it is first needed."""
        return load_pipeline(None, device=self.device)

    @cached_property
    def assets(self) -> str:
        """A hash of the weights of the model and its LoRAs."""
        digest = hashlib.sha256()
        for path in sorted((*EMBEDDED_MODEL.rglob("*.safetensors"), *EMBEDDED_LORAS.glob("*.safetensors"))):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:12]

    @cached_property
    def judge(self) -> Judge:
        """The judge, loaded when it is first needed."""
        return Judge()


Draw = Callable[[Setup, str, Sequence[int], Settings], "list[Image.Image]"]


def by_composing(setup: Setup, text: str, seeds: Sequence[int], settings: Settings) -> list[Image.Image]:
    """Pictures by `clora.compose`; seeds are consecutive and make one batch."""
    return compose(
        setup.pipe, [text] * len(seeds), loras=[EMBEDDED_LORAS], seed=seeds[0], steps=setup.steps,
        guidance=setup.guidance, settings=settings,
    ).images  # fmt: skip


def by_boxes(setup: Setup, text: str, seeds: Sequence[int], settings: Settings) -> list[Image.Image]:
    """Pictures by `compose_in_boxes`, with boxes as masks."""
    return compose_in_boxes(
        setup.pipe, setup.judge, text, seeds, loras=[EMBEDDED_LORAS], steps=setup.steps, guidance=setup.guidance,
        settings=settings,
    )  # fmt: skip


def by_loratorio(setup: Setup, text: str, seeds: Sequence[int], settings: Settings) -> list[Image.Image]:
    """Pictures by `clora.compose`, the strategy apart."""
    with in_place_of_composite():
        return by_composing(setup, text, seeds, settings)


@dataclass(frozen=True)
class Method:
    """One column of the contact sheets. `draw` gives one picture per seed for a prompt's text."""

    name: str
    label: str
    settings: Settings = field(default_factory=Settings)
    draw: Draw = by_composing

    def key(self, setup: Setup, text: str, seed: int) -> str:
        """A hash of all that determines a picture. Changed defaults change it; settings added later do not."""
        deciding = sorted(self._deciding().items())
        values = [self.name, setup.assets, text, seed, setup.steps, setup.guidance, deciding]
        return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:20]

    def _deciding(self) -> dict[str, Any]:
        deciding = [s for s in SETTINGS if not s.webui_only and s.name != "rows_per_forward"]
        values = {s.name: (getattr(self.settings, s.name), BASELINE.get(s.name, s.default)) for s in deciding}
        return {name: value for name, (value, baseline) in values.items() if value != baseline}


_ALL = (
    Method("merge", "plain merge", Settings(method="merge")),
    Method("composite", "Composite", Settings(method="composite")),
    Method("switch", "Switch", Settings(method="switch")),
    Method("paper", "CLoRA, paper preset", Settings(preset="paper")),
    Method("default", "CLoRA, default"),
    Method("exact", "CLoRA, exact", Settings(preset="exact")),
    Method("fast", "CLoRA fast (no update)", Settings(preset="fast")),
    Method("no-masks", "CLoRA without masks", Settings(fuse_from=1.0)),
    Method("freefuse", "FreeFuse's masks", Settings(preset="fast", look_ahead=0.2, mask_until=0.0)),
    Method("loratorio", "LoRAtorio's weights", Settings(method="composite"), by_loratorio),
    Method("boxes", "boxes given (bound)", Settings(update_until=0.0), by_boxes),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
REFERENCE = "default"  # the method that the others are compared with
PLAIN = "merge"  # draws prompts with fewer than two concepts, for any method
