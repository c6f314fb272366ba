"""The methods that are compared: a table of names, and how each draws pictures of a prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from benchmarks.characters.boxes import compose_in_boxes
from benchmarks.characters.loratorio import in_place_of_composite
from benchmarks.characters.setup import Setup
from clora.hosts.diffusers import compose
from clora.settings import SETTINGS, Settings

# Keys of pictures hold the differences from these values, the defaults when the first pictures were drawn. Never change
# them, so that a changed default changes keys. Add a new setting with its default, so that old keys stay valid.
BASELINE: dict[str, Any] = {
    "method": "clora", "step_size": 10.0, "update_until": 0.5, "refine_at": (0.0, 0.2, 0.4), "refine_updates": 20,
    "refine_tolerance": 0.03, "update_cap": 0.0, "update_layers": "all", "temperature": 0.5, "maps": "conditional",
    "noise": "fresh", "look_ahead": 0.0, "fuse_from": 0.1, "mask_words": "subject", "mask_threshold": 0.4,
    "mask_scale": "range", "mask_grid": "latent", "mask_smooth": True, "mask_overlap": "argmax", "mask_dilate": False,
    "mask_erode": False, "mask_open": False, "mask_close": False, "mask_every": 1, "mask_until": 1.0,
    "hint_masks": "replace", "hint_pull": 1.0, "hint_move": True, "fusion": "single-pass", "shared_uncond": False,
    "variants_every": 1, "compose_until": 1.0, "own_places": 0.0, "stress": 1.0,
    "style_from": 0.4, "look_guidance": 1.0,
}  # fmt: skip
DECIDING = [s for s in SETTINGS if not s.webui_only and s.name != "rows_per_forward"]
"""The settings that can change a picture drawn here."""

Draw = Callable[[Setup, str, Sequence[int], Settings], "list[Image.Image]"]
"""One picture per seed of a prompt's text; seeds are consecutive."""


def by_composing(setup: Setup, text: str, seeds: Sequence[int], settings: Settings) -> list[Image.Image]:
    """Pictures by `clora.compose`, in one batch."""
    return compose(
        setup.pipe, [text] * len(seeds), loras=[setup.loras], seed=seeds[0], steps=setup.steps,
        guidance=setup.guidance, settings=settings,
    ).images  # fmt: skip


def by_boxes(setup: Setup, text: str, seeds: Sequence[int], settings: Settings) -> list[Image.Image]:
    """Pictures by `compose_in_boxes`, with boxes as masks."""
    return compose_in_boxes(
        setup.pipe, setup.judge, text, seeds, loras=[setup.loras], steps=setup.steps, guidance=setup.guidance,
        settings=settings,
    )  # fmt: skip


def by_loratorio(setup: Setup, text: str, seeds: Sequence[int], settings: Settings) -> list[Image.Image]:
    """Pictures by `clora.compose`, the strategy apart."""
    with in_place_of_composite():
        return by_composing(setup, text, seeds, settings)


@dataclass(frozen=True)
class Method:
    """One row of the tables and one column of the contact sheets."""

    name: str
    label: str
    settings: Settings = field(default_factory=Settings)
    draw: Draw = by_composing
    judged: bool = False  # whether the judge has a part in the drawing

    def key(self, setup: Setup, text: str, seed: int) -> str:
        """A hash of all that determines a picture, except the engine's code."""
        values: list[Any] = [self.name, text, seed, setup.steps, setup.guidance, setup.weights(text), self._changes()]
        values += [setup.judge_name] if self.judged else []
        return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:20]

    def _changes(self) -> list[tuple[str, Any]]:
        values = {s.name: (getattr(self.settings, s.name), BASELINE.get(s.name, s.default)) for s in DECIDING}
        return sorted((name, value) for name, (value, baseline) in values.items() if value != baseline)


ALONE: dict[str, Any] = {"own_places": 0.0, "stress": 1.0, "style_from": 0.0, "look_guidance": 1.0}
"""What others' mechanisms do not have."""
_ALL = (
    Method("merge", "plain merge", Settings(method="merge")),
    Method("composite", "Composite", Settings(method="composite")),
    Method("switch", "Switch", Settings(method="switch")),
    Method("paper", "CLoRA, paper preset", Settings(preset="paper")),
    Method("default", "CLoRA, balanced"),
    Method("exact", "CLoRA, exact", Settings(preset="exact")),
    Method("fast", "CLoRA fast (no update)", Settings(preset="fast")),
    Method("no-masks", "CLoRA without masks", Settings(fuse_from=1.0, look_ahead=0.0, look_guidance=1.0)),
    Method("freefuse", "FreeFuse's masks", Settings(preset="fast", look_ahead=0.2, mask_until=0.0, **ALONE)),
    Method("loratorio", "LoRAtorio's weights", Settings(method="composite"), by_loratorio),
    Method("boxes", "boxes given (bound)", Settings(update_until=0.0, look_ahead=0.0, **ALONE), by_boxes, judged=True),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
REFERENCE = "default"  # the method that the others are compared with, if no other is chosen
PLAIN = METHODS["merge"]  # draws prompts that CLoRA does not compose, for any method
