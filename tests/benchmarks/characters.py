"""Stand-ins for the tests of benchmarks/characters: findings, a judge of colours, drawings, a setup without files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from PIL import Image

from benchmarks.characters.setup import Judging, Setup
from clora.errors import CLoRAError
from clora.settings import Settings
from research.characters.judge import Finding, Verdict
from research.characters.prompts import Instance, Prompt

GENIE, SINGER, FOX = Instance("person", "genie"), Instance("person", "singer"), Instance("fox", "fox")


def seen(name: str, x: float = 80.0, y: float = 128.0, style: str = "none", **shares: float) -> Finding:
    """A finding of a name, sure by 0.9 unless shares are given."""
    return Finding(x, y, 110.0, 0.9, shares or {name: 0.9}, {style: 1.0})


def verdict(*subjects: Finding, background: str = "grass", style: str = "none") -> Verdict:
    """A verdict."""
    return Verdict(subjects, background, style)


def prompt(*expect: Instance, name: str = "p", group: str = "same class", **more: object) -> Prompt:
    """A prompt without tags, so that no LoRA file is needed."""
    return Prompt(name, group, "report", f"a prompt {name}", expect, **more)  # type: ignore[arg-type]


def by_colour(pictures: Sequence[Image.Image]) -> list[Verdict]:
    """A judge that sees a genie in red pictures, and a genie and a singer in all others."""
    both = (seen("genie", 80), seen("singer", 190))
    return [verdict(*both[: 1 if picture.getpixel((0, 0)) == (255, 0, 0) else 2]) for picture in pictures]


@dataclass(frozen=True)
class NoFiles(Setup):
    """A setup without model, LoRAs and judge. Prompts whose text has a word of `refuses` or `usual` are such."""

    refuses: str = "refused"
    usual: str = "usual"
    judged: list[int] = field(default_factory=list)  # how many pictures each call of the judge had

    pipe = None
    judge_name = "j"

    @cached_property
    def judge(self) -> Judging:
        """Counts its calls."""

        def judge(pictures: Sequence[Image.Image]) -> list[Verdict]:
            self.judged.append(len(pictures))
            return by_colour(pictures)

        return judge

    def weights(self, text: str) -> list[str]:
        """No hashes."""
        return []

    def composes(self, text: str) -> bool:
        """By the words in the text."""
        if self.refuses in text:
            raise CLoRAError("No.")
        return self.usual not in text


class Drawer:
    """Counts what is drawn; raises after `stop` pictures, as an interrupt would."""

    def __init__(self, colour: str = "blue", stop: int = 0) -> None:
        self.drawn: list[tuple[str, int]] = []
        self.colour, self.stop = colour, stop

    def __call__(self, setup: Setup, text: str, seeds: Sequence[int], settings: Settings) -> list[Image.Image]:
        if self.stop and len(self.drawn) >= self.stop:
            raise KeyboardInterrupt
        self.drawn += [(text, seed) for seed in seeds]
        return [Image.new("RGB", (256, 256), self.colour) for _ in seeds]
