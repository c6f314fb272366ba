"""Every setting once: type, default, range, label and help. Panel, API, infotext and command line derive from it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import CLoRAError, shown
from .presets import START, preset_values
from .setting import Setting, setting, settings_of

Method = Literal["clora", "merge", "composite", "switch"]
Fusion = Literal["exact", "single-pass"]
UpdateLayers = Literal["all", "down"]
MapSource = Literal["conditional", "both"]
NoiseSource = Literal["fresh", "stale"]
MaskWords = Literal["subject", "all"]
MaskScale = Literal["max", "range"]
MaskGrid = Literal["map", "latent"]
Overlap = Literal["average", "argmax"]
RegionMasks = Literal["replace", "multiply"]


@dataclass(frozen=True, repr=False)
class Settings:
    """One value for every setting; immutable, validated when made.

    `Settings(preset="paper", step_size=10)` starts from a preset. Values may be text or JSON, as the API and the
    command line have them. Raises: CLoRAError for an unknown setting or preset, or a value out of its range.
    """

    if TYPE_CHECKING:
        preset: str = START

    method: Method = setting(
        "clora", "Method", "How the LoRAs are composed: clora, or one of the common methods for comparison."
    )
    step_size: float = setting(
        10.0,
        "Update strength",
        "How far each latent update moves the latent along the gradient of the loss.",
        high=1000.0,
    )
    update_until: float = setting(0.3, "Update until", "Fraction of the steps during which the latent is updated.")
    refine_at: tuple[float, ...] = setting(
        (), "Refine at", "Fractions of the steps at which the latent gets extra updates."
    )
    refine_updates: int = setting(
        20, "Refine updates", "Maximum number of extra updates at each refine step.", high=200
    )
    refine_tolerance: float = setting(
        0.03,
        "Refine tolerance",
        "A refine step ends when an update lowers the loss by less than this fraction; 0 always makes all updates.",
    )
    update_cap: float = setting(
        0.0, "Update cap", "Maximum size of one update relative to the latent (root mean square); 0 means no limit."
    )
    update_layers: UpdateLayers = setting(
        "all",
        "Update layers",
        "Layers whose maps the update uses: all of the map grid, or only those on the way down, which is faster.",
    )
    temperature: float = setting(
        0.5,
        "Temperature",
        "Temperature of the contrastive loss; lower values act more strongly on the closest maps.",
        low=0.01,
        high=10.0,
    )
    maps: MapSource = setting(
        "conditional",
        "Maps from",
        "Rows whose maps count: the conditional ones, or both halves of the guidance batch as in the authors' code.",
    )
    noise: NoiseSource = setting(
        "fresh",
        "Noise from",
        "Predict the noise of a step after its last update (fresh), or before it as in the authors' code (stale).",
    )
    look_ahead: float = setting(
        0.2,
        "Look ahead",
        "Fraction of the steps drawn beforehand without LoRAs, so that masks count from the first step on; 0: off.",
    )
    fuse_from: float = setting(
        0.1, "Fuse from", "Fraction of the steps before which predictions are averaged without masks."
    )
    mask_words: MaskWords = setting(
        "subject", "Mask words", "Words whose maps cut a concept's mask: its subject words, or also its trigger words."
    )
    mask_threshold: float = setting(
        0.4, "Mask threshold", "A cell belongs to a mask if its map exceeds this fraction of the scale."
    )
    mask_scale: MaskScale = setting(
        "range",
        "Mask scale",
        "What the threshold is relative to: the map's maximum, or its range after min-max scaling.",
    )
    mask_grid: MaskGrid = setting(
        "latent",
        "Cut masks on",
        "The map grid, as in the authors' code, or the latent grid, to which the maps are interpolated.",
    )
    mask_smooth: bool = setting(True, "Smooth maps", "Smooth the maps with a 3 x 3 Gaussian before cutting masks.")
    mask_overlap: Overlap = setting(
        "argmax",
        "Overlap",
        "Where masks overlap: average the predictions, or use only the concept with the strongest map.",
    )
    mask_dilate: bool = setting(False, "Dilate", "Grow masks by one map cell.")
    mask_erode: bool = setting(False, "Erode", "Shrink masks by one map cell.")
    mask_open: bool = setting(False, "Open", "Remove specks from masks.")
    mask_close: bool = setting(False, "Close", "Fill small holes in masks.")
    mask_every: int = setting(1, "Masks every", "Number of steps from one set of masks to the next.", low=1, high=100)
    mask_until: float = setting(1.0, "Masks until", "Fraction of the steps after which masks no longer change.")
    hint_masks: RegionMasks = setting(
        "replace",
        "Places in masks",
        "How a subject's place changes its mask: replace it, or cut off what lies outside the place (multiply).",
    )
    hint_pull: float = setting(
        4.0,
        "Pull to places",
        "How strongly updates pull a subject to its place; 0 turns the pull off.",
        high=20.0,
    )
    fusion: Fusion = setting(
        "single-pass",
        "Fusion",
        "exact: one row of the model per concept; single-pass: one row for all, nearly as fast as a plain step.",
    )
    shared_uncond: bool = setting(
        False,
        "Shared negative",
        "Exact fusion: run the negative prompt once, without LoRAs, for all concepts; nearly halves the rows.",
    )
    variants_every: int = setting(
        1,
        "Concepts every",
        "Exact fusion: run the concepts' rows only every this many steps, and reuse their last difference in between.",
        low=1,
        high=20,
    )
    compose_until: float = setting(
        1.0, "Compose until", "Fraction of the steps after which only the base continues, without the concepts' LoRAs."
    )
    rows_per_forward: int = setting(
        0,
        "Rows per forward",
        "Maximum rows in one forward of the UNet; fewer rows need less memory and more time. 0 means no limit.",
        high=256,
    )
    hires: bool = setting(
        True,
        "Compose hires",
        "Also compose in the hires pass, with the masks of the first pass. Off: the hires pass uses only the base.",
        webui_only=True,
    )
    show_masks: bool = setting(True, "Show masks", "Add each picture with its masks to the gallery.", webui_only=True)
    show_maps: bool = setting(
        False,
        "Show maps",
        "Add each concept's attention maps at the first masks, the last update and the last step.",
        webui_only=True,
    )
    show_loss: bool = setting(False, "Show loss", "Add the loss curve to the gallery.", webui_only=True)
    show_merge: bool = setting(
        False,
        "Compare with merge",
        "Also draw the same prompt and seed without CLoRA, and add both side by side. Costs one more plain picture.",
        webui_only=True,
    )
    preview_masks: bool = setting(
        True,
        "Masks in preview",
        "Show the masks in the WebUI's live preview, in at most 3 % of the time.",
        webui_only=True,
    )
    detail: bool = setting(
        False,
        "Detail pass",
        "Draw each subject of the finished picture again, in an enlarged crop, with its LoRA and its words alone.",
        webui_only=True,
    )
    detail_steps: int = setting(
        0, "Detail steps", "Sampling steps of each detail pass; 0: those of the job.", high=150, webui_only=True
    )
    detail_strength: float = setting(
        0.4,
        "Detail strength",
        "Denoising strength of the detail pass: how far it may change a subject.",
        low=0.05,
        webui_only=True,
    )
    detail_size: int = setting(
        0,
        "Detail size",
        "Longer side in pixels with which the detail pass draws a crop; 0: the longer side of the job's first pass.",
        high=2048,
        webui_only=True,
    )
    hint_move: bool = setting(
        True,
        "Move to places",
        "With a look-ahead: move the noise of a subject that would be drawn elsewhere to its place.",
    )
    own_places: float = setting(
        0.4,
        "Own places until",
        "With a look-ahead: fraction of the steps in which each subject has a part of the picture to itself; 0: off.",
    )
    stress: float = setting(
        1.2,
        "Stress own words",
        "How much each subject's variant stresses its own words and plays down the other subjects'; 1: not at all.",
        low=1.0,
        high=3.0,
    )
    style_from: float = setting(
        0.4,
        "Styles on subjects from",
        "Fraction of the steps before a style acts on a subject that has a LoRA of its own; 0: from the start.",
    )
    look_guidance: float = setting(
        1.35,
        "Look guidance",
        "How much guidance strengthens looks: LoRAs count less in the unconditional prediction. 1: not at all.",
        low=1.0,
        high=10.0,
    )

    if not TYPE_CHECKING:  # the type checker sees the dataclass's own; this one parses text and knows presets

        def __init__(self, preset: str = START, **values: Any) -> None:
            merged = {**preset_values(preset), **values}
            for name in values:
                if name not in BY_NAME:
                    raise CLoRAError(f"There is no setting {shown(name)}: {_did_you_mean(name)}")
            for one in SETTINGS:
                value = one.parse(merged[one.name]) if one.name in merged else one.default
                object.__setattr__(self, one.name, value)

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.changed().items())})"

    def values(self) -> dict[str, Any]:
        """Every setting's value by name."""
        return {one.name: getattr(self, one.name) for one in SETTINGS}

    def replace(self, **values: Any) -> Settings:
        """The same settings with some values changed."""
        return Settings(**{**self.values(), **values})

    def changed(self) -> Mapping[str, Any]:
        """The settings that differ from the default, for infotext and messages."""
        return {one.name: value for one in SETTINGS if (value := getattr(self, one.name)) != one.default}

    @property
    def updates(self) -> bool:
        """Whether the latent is updated at all."""
        return self.method == "clora" and self.update_until > 0.0 and self.step_size > 0.0


SETTINGS: tuple[Setting, ...] = settings_of(Settings)
BY_NAME = {one.name: one for one in SETTINGS}
METHODS = BY_NAME["method"].choices


def _did_you_mean(name: str) -> str:
    near = difflib.get_close_matches(name[:40], BY_NAME, n=1)
    return f"did you mean {near[0]}?" if near else f"the settings are {', '.join(BY_NAME)}."
