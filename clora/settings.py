"""Every parameter once: name, default, range, label, help. Panel, API, infotext and command line derive from it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from .errors import CLoRAError
from .masks import MaskOptions
from .setting import Setting

__all__ = ["BY_NAME", "METHODS", "PRESETS", "SETTINGS", "Setting", "Settings"]

METHODS = ("clora", "merge", "composite", "switch")


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "method",
        "choice",
        "clora",
        "Method",
        "How the LoRAs are composed: clora, or one of the usual ways for comparison.",
        choices=METHODS,
    ),
    Setting(
        "step_size",
        "float",
        20.0,
        "Update strength",
        "How far each latent update moves the latent along the gradient of the loss.",
        high=1000.0,
    ),
    Setting("update_until", "float", 0.5, "Update until", "Part of the steps during which the latent is updated."),
    Setting(
        "refine_at",
        "fractions",
        (0.0, 0.2, 0.4),
        "Refine at",
        "Parts of the steps at which the latent gets extra updates.",
    ),
    Setting("refine_updates", "int", 20, "Refine updates", "Extra updates at each refine step.", high=200),
    Setting(
        "refine_tolerance",
        "float",
        0.0,
        "Refine tolerance",
        "A refine step ends once an update lowers the loss by less than this part of it; 0 makes all its updates.",
    ),
    Setting(
        "update_cap",
        "float",
        0.0,
        "Update cap",
        "Largest size of one update relative to the latent (root mean square); 0 sets no limit.",
    ),
    Setting(
        "temperature",
        "float",
        0.5,
        "Temperature",
        "Temperature of the contrastive loss; smaller pulls harder on the closest maps.",
        low=0.01,
        high=10.0,
    ),
    Setting(
        "maps",
        "choice",
        "conditional",
        "Maps from",
        "Rows whose maps count: the conditional ones, or both halves of the guidance batch as the authors do.",
        choices=("conditional", "both"),
    ),
    Setting(
        "noise",
        "choice",
        "fresh",
        "Noise from",
        "Noise predicted after the last update of a step (fresh), or before it as the authors do (stale).",
        choices=("fresh", "stale"),
    ),
    Setting("fuse_from", "float", 0.0, "Fuse from", "Part of the steps before which predictions are averaged."),
    Setting(
        "mask_words",
        "choice",
        "subject",
        "Mask words",
        "Words whose maps cut a concept's mask: its subject words, or its trigger words too.",
        choices=("subject", "all"),
    ),
    Setting(
        "mask_threshold",
        "float",
        0.5,
        "Mask threshold",
        "A place belongs to a mask where its map exceeds this part of the scale.",
    ),
    Setting(
        "mask_scale",
        "choice",
        "range",
        "Mask scale",
        "What the threshold is relative to: the map's maximum, or its range after min-max scaling.",
        choices=("max", "range"),
    ),
    Setting("mask_smooth", "bool", True, "Smooth maps", "Smooth maps with a 3 x 3 Gaussian before cutting masks."),
    Setting(
        "mask_overlap",
        "choice",
        "argmax",
        "Overlap",
        "Where masks meet: average the predictions, or give the place to the strongest map.",
        choices=("average", "argmax"),
    ),
    Setting("mask_dilate", "bool", False, "Dilate", "Grow masks by one map cell."),
    Setting("mask_erode", "bool", False, "Erode", "Shrink masks by one map cell."),
    Setting("mask_open", "bool", False, "Open", "Remove specks from masks."),
    Setting("mask_close", "bool", False, "Close", "Fill small holes in masks."),
    Setting(
        "rows_per_forward",
        "int",
        0,
        "Rows per forward",
        "Most rows in one forward of the UNet: fewer need less memory and more time; 0 runs all at once.",
        high=256,
    ),
    Setting(
        "hires",
        "bool",
        True,
        "Compose hires",
        "Compose in the hires pass too, with the masks of the first pass; off: the hires pass has only the base.",
        webui_only=True,
    ),
    Setting(
        "show_masks", "bool", True, "Show masks", "Add the masks over each picture to the gallery.", webui_only=True
    ),
    Setting(
        "show_maps",
        "bool",
        False,
        "Show maps",
        "Add the attention maps that cut the masks to the gallery.",
        webui_only=True,
    ),
    Setting("show_loss", "bool", False, "Show loss", "Add the curve of the loss to the gallery.", webui_only=True),
)

BY_NAME = {setting.name: setting for setting in SETTINGS}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # A refine step ends when it has done most of its work.
    "fast": {"refine_tolerance": 0.03},
    # The authors' notebook and code: both halves of the batch, noise from before the update, lambda * max.
    "paper": {
        "maps": "both", "noise": "stale", "mask_words": "all", "mask_threshold": 0.4, "mask_scale": "max",
        "mask_smooth": False, "mask_overlap": "average",
    },
}  # fmt: skip


class Settings:
    """One value for every entry of `SETTINGS`, as attributes; immutable, validated on the way in.

    `Settings(preset="paper", step_size=10)` starts from a preset. Errors: CLoRAError naming an unknown setting, with
    the nearest name, or a value out of its range.
    """

    def __init__(self, preset: str = "default", **values: Any) -> None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise CLoRAError(f"There is no preset {preset!r}: give one of {', '.join(PRESETS)}.")
        for name in values:
            if name not in BY_NAME:
                near = difflib.get_close_matches(name, BY_NAME, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(BY_NAME)}."
                raise CLoRAError(f"There is no setting {name!r}: {hint}")
        merged = {**PRESETS[preset], **values}
        table = {s.name: s.parse(merged[s.name]) if s.name in merged else s.default for s in SETTINGS}
        object.__setattr__(self, "_values", table)
        object.__setattr__(self, "preset", preset)

    preset: str
    _values: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_values")[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("Settings are immutable: make new ones with replace()")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in self.changed().items())})"

    def replace(self, **values: Any) -> Settings:
        """The same settings with some values changed."""
        return Settings(**{**self._values, **values})

    def changed(self) -> Mapping[str, Any]:
        """The settings that differ from the default, for infotext and messages."""
        return {s.name: self._values[s.name] for s in SETTINGS if self._values[s.name] != s.default}

    @property
    def updates(self) -> bool:
        """Whether the latent is updated at all."""
        return bool(self.method == "clora" and self.update_until > 0.0 and self.step_size > 0.0)

    def mask_options(self) -> MaskOptions:
        """The settings that `clora.masks` needs."""
        return MaskOptions(
            threshold=self.mask_threshold, relative_to=self.mask_scale, smooth=self.mask_smooth,
            overlap=self.mask_overlap, dilate=self.mask_dilate, erode=self.mask_erode,
            opening=self.mask_open, closing=self.mask_close,
        )  # fmt: skip
