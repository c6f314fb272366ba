"""The paper's results, for comparison, and how a run differs from the paper's setup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .work import Studio

DINO = "facebook/dino-vits16"
CLIP = "openai/clip-vit-base-patch32"
SEGMENTER = "CIDAS/clipseg-rd64-refined"
STEPS, SEEDS, REFERENCES = 50, 10, 50


def _three(name: str, *values: float) -> dict[str, float]:
    return {f"{name}_{part}": value for part, value in zip(("min", "avg", "max"), values, strict=True)}


# Table -> method as the paper calls it -> measure -> value. SD 1.5, 512 x 512 pixels, 50 steps; time and memory with
# two LoRAs. The paper gives the instance level in percent.
FIGURES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "Whole picture": {
        "CLoRA": {
            **_three("dino", 0.447, 0.554, 0.593), **_three("clip", 0.683, 0.725, 0.756), "clip_t": 0.862,
        },
        "LoRA merge": {
            **_three("dino", 0.376, 0.472, 0.504), **_three("clip", 0.641, 0.683, 0.714), "clip_t": 0.814,
        },
        "Composite": {"clip_t": 0.833},
        "Mix-of-Show": {**_three("dino", 0.407, 0.526, 0.564), **_three("clip", 0.664, 0.712, 0.744)},
        "CLoRA, 3 to 5 LoRAs": _three("clip", 0.396, 0.525, 0.668),
        "Mix-of-Show, 3 to 5 LoRAs": _three("clip", 0.371, 0.490, 0.688),
    },
    "Instance level": {
        "CLoRA": {
            **_three("instance_dino", 0.472, 0.573, 0.691), **_three("instance_clip", 0.833, 0.871, 0.898),
        },
        "LoRA merge": {
            **_three("instance_dino", 0.370, 0.437, 0.505), **_three("instance_clip", 0.760, 0.795, 0.825),
        },
        "Composite": _three("instance_clip", 0.762, 0.797, 0.825),
        "ZipLoRA": _three("instance_dino", 0.369, 0.496, 0.533),
    },
    "Leak": {},
    "Cost": {
        "CLoRA": {"seconds": 24.0, "memory": 25.0},
        "LoRA merge": {"seconds": 3.2, "memory": 7.0},
        "Composite": {"seconds": 3.4, "memory": 7.0},
        "Switch": {"seconds": 4.8, "memory": 7.0},
        "LoRA-Composer": {"seconds": 35.0, "memory": 51.0},
        "OMG": {"seconds": 62.0, "memory": 30.0},
        "CLoRA, 8 LoRAs (H100)": {"seconds": 96.0, "memory": 80.0},
    },
}  # fmt: skip

HEADLINE = "These numbers are not the paper's."
SCALE = (
    "CLIP-T is the raw cosine similarity, which is 0.2 to 0.4 for real pictures; the paper's values near 0.8 are "
    "on a different scale, which it does not describe."
)
CHOICE = f"It is not known which DINO and CLIP checkpoints the paper used: {DINO} and {CLIP} are this project's choice."
OWN = (
    "Prompts, LoRAs and checkpoint are yours, not the authors': compare the methods of this run with each other, and "
    "compare only their order with the paper."
)


def differences(
    studio: Studio, dino: str, clip: str, methods: Sequence[str], seeds: int, references: int
) -> list[str]:  # fmt: skip
    """Sentences about the differences between this run and the paper."""
    found: list[str] = []
    if studio.model is None:
        found.append("The model is the embedded one, which was trained on simple pictures drawn by this project.")
    if dino != DINO:
        found.append(f"DINO is {dino}, not {DINO}.")
    if clip != CLIP:
        found.append(f"CLIP is {clip}, not {CLIP}.")
    if studio.steps != STEPS:
        found.append(f"The number of steps is {studio.steps}, not {STEPS}.")
    if seeds < SEEDS:
        found.append(f"There are {seeds} seeds per prompt, not {SEEDS}.")
    if references < REFERENCES:
        found.append(f"There are {references} reference pictures per LoRA, not {REFERENCES}.")
    if "paper" not in methods:
        found.append("The paper's own settings (method paper) are not among the methods.")
    return found
