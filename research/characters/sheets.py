"""Draw contact sheets of the base model."""

from __future__ import annotations

import random

from research.shared.diffusion import draw, load
from research.shared.training import sheet

from .common import options
from .words import GROUPS, WORDS

PROMPTS = [
    "a wizard and a fox on grass",
    "a princess and a robot at the beach",
    "a king",
    "an elf in a forest",
    "a person and a person in a city",
    "a ninja next to an astronaut in the desert",
    "a cat and a cat",
    "two cats in snow",
    "a wizard behind a panda at night",
    "a princess riding a tiger in the desert",
    "a king holding a pizza",
    "a vampire, a ghost and a pumpkin at night",
    "a dog, a rabbit and an owl in a forest",
    "a mermaid and a turtle under water",
    "a frog in front of a house on grass",
    "a photo of a person",
    "a superhero and a guard in a city",
    "an alien and a rocket in the desert",
    "a guard, a cook, a lion and a ghost",
    "a penguin and a bear in the snow",
    "a horse at sunset",
    "a cook and a vampire in a room",
    "an astronaut and a parrot on grass",
    "an elephant and a car",
]


def random_prompts(count: int, rng: random.Random) -> list[str]:
    """Prompts of two words each, one of them a person, as a plain check of what is drawn right."""
    found = []
    for _ in range(count):
        first, second = rng.choice(GROUPS["person"]), rng.choice(list(WORDS))
        found.append(" and ".join(f"{'an' if word[0] in 'aeiou' else 'a'} {word}" for word in (first, second)))
    return found


def main() -> None:
    """Write a sheet into the work folder."""
    parser = options(__doc__ or "")
    parser.add_argument("--model", default="model", help="the model's folder within the work folder")
    parser.add_argument("--name", default="base")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--random", type=int, default=0, help="so many random pairs instead of the fixed prompts")
    args = parser.parse_args()
    prompts = random_prompts(args.random, random.Random(args.seed)) if args.random else PROMPTS
    pictures = draw(load(args.work / args.model, args.device), prompts, args.seed, args.steps, args.guidance)
    sheet(pictures, 6, args.work / "sheets" / f"{args.name}.png", 220)
    print("\n".join(prompts))


if __name__ == "__main__":
    main()
