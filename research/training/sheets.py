"""Draws a contact sheet of the base model in the assets."""

from __future__ import annotations

from research.shared.diffusion import draw, load
from research.shared.training import sheet

from .common import options

PROMPTS = [
    "a ball and a fish",
    "a star and a house on grass",
    "a mushroom and a heart",
    "a fish and a star on sand",
    "a house and a ball at night",
    "a heart and a fish in snow",
    "a ball and a ball",
    "a red ball and a blue ball on sand",
    "a fish and a fish on water",
    "a ball, a star and a house",
    "a fish, a heart and a mushroom on grass",
    "a photo of a sks ball",
    "a striped green fish",
    "a dotted red mushroom and a checked blue heart in snow",
    "a yellow star on water",
    "a purple house at night",
]


def main() -> None:
    """Write `base.png` into the work folder."""
    parser = options(__doc__ or "")
    parser.add_argument("--name", default="base")
    parser.add_argument("--steps", type=int, default=25)
    args = parser.parse_args()
    pictures = draw(load(args.out / "model", args.device), PROMPTS, args.seed, args.steps)
    sheet(pictures, 4, args.work / f"{args.name}.png")


if __name__ == "__main__":
    main()
