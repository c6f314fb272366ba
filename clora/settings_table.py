"""Every parameter once: name, default, range, label, help. Panel, API, infotext and command line derive from it."""

from __future__ import annotations

from typing import Any

from .setting import Setting

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
        10.0,
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
        0.03,
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
        "update_layers",
        "choice",
        "all",
        "Update layers",
        "Layers whose maps the update looks at: all of the map grid, or those on the way down only, which is faster.",
        choices=("all", "down"),
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
    Setting("fuse_from", "float", 0.1, "Fuse from", "Part of the steps before which predictions are averaged."),
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
        0.4,
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
    Setting(
        "mask_grid",
        "choice",
        "latent",
        "Cut masks on",
        "The map grid, in whole cells as the authors do; or the latent grid, after maps are enlarged smoothly.",
        choices=("map", "latent"),
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
        "mask_every",
        "int",
        1,
        "Masks every",
        "Cut new masks every so many steps, and keep them in between.",
        low=1,
        high=100,
    ),
    Setting("mask_until", "float", 1.0, "Masks until", "Part of the steps after which masks stay as they are."),
    Setting(
        "hint_masks",
        "choice",
        "replace",
        "Places in masks",
        "What a subject's place does to its mask: it becomes the mask, or cuts off what lies outside.",
        choices=("replace", "multiply"),
    ),
    Setting(
        "hint_pull",
        "float",
        1.0,
        "Pull to places",
        "How hard updates pull a subject to its place; 0 leaves the update as it is without places.",
        high=20.0,
    ),
    Setting(
        "fusion",
        "choice",
        "single-pass",
        "Fusion",
        "exact: a row of the model for each concept; single-pass: all concepts in one row, hardly slower than plain.",
        choices=("exact", "single-pass"),
    ),
    Setting(
        "shared_uncond",
        "bool",
        False,
        "Shared negative",
        "Use the base's row of the negative prompt for all concepts: nearly half as many rows.",
    ),
    Setting(
        "variants_every",
        "int",
        1,
        "Concepts every",
        "Exact fusion: run the concepts' rows every so many steps; between, use their last difference from the base.",
        low=1,
        high=20,
    ),
    Setting(
        "compose_until",
        "float",
        1.0,
        "Compose until",
        "Part of the steps after which only the base goes on, without the concepts' LoRAs.",
    ),
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
        "Add each concept's attention maps at the first masks, the last update and the end.",
        webui_only=True,
    ),
    Setting("show_loss", "bool", False, "Show loss", "Add the curve of the loss to the gallery.", webui_only=True),
    Setting(
        "show_merge",
        "bool",
        False,
        "Compare with merge",
        "Draw the same prompt and seed without CLoRA too and add both side by side; takes that much longer.",
        webui_only=True,
    ),
    Setting(
        "preview_masks",
        "bool",
        False,
        "Masks in preview",
        "Show the masks in the live preview, as often as the WebUI shows one.",
        webui_only=True,
    ),
)

BY_NAME = {setting.name: setting for setting in SETTINGS}

# What won on the tuning split of benchmarks/composition is the default (docs/quality.md).
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # A row of the model for each concept, and all updates: what the default's short cuts are measured against.
    "exact": {"refine_tolerance": 0.0, "fusion": "exact"},
    # No update at all: where subjects appear by themselves.
    "fast": {"update_until": 0.0},
    # The authors' notebook and code: both halves of the batch, noise from before the update, lambda * max.
    "paper": {
        "step_size": 20.0, "refine_tolerance": 0.0, "maps": "both", "noise": "stale", "fusion": "exact",
        "fuse_from": 0.0, "mask_words": "all", "mask_threshold": 0.4, "mask_scale": "max", "mask_grid": "map",
        "mask_smooth": False, "mask_overlap": "average",
    },
}  # fmt: skip
