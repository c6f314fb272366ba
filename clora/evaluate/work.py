"""The work list of the paper's evaluation: each LoRA's references, and compositions by every method and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..prompt import Composition, Concept, LoraUse
from ..settings import Settings
from .methods import KNOWN, Method
from .store import digest

REFERENCE_SEED = 1_000_000
"""Seed of a LoRA's first reference picture, far from those of compositions, so that none share noise."""


@dataclass(frozen=True)
class Studio:
    """What all pictures of a run share. `model` None is the embedded model; `files` are LoRA files by name."""

    model: Path | None
    files: Mapping[str, Path]
    device: str = "cpu"
    prediction: str | None = None
    steps: int = 50
    guidance: float = 7.5
    width: int = 0
    height: int = 0
    negative: str = ""


@dataclass(frozen=True)
class Item:
    """One picture to draw; `title` is its name in messages."""

    key: str
    title: str
    prompt: str
    seed: int
    settings: Settings


@dataclass(frozen=True)
class Subject:
    """A concept of a composition, and the keys of the reference pictures of its LoRAs alone."""

    label: str
    words: str
    prompt: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A prompt of the list: what it composes, its text without tags, its subjects in the prompt's order."""

    id: str
    kind: str
    text: str
    plain: str
    subjects: tuple[Subject, ...]


@dataclass(frozen=True)
class Work:
    """Everything to draw. `items` are ordered by prompt and seed, so that an interrupted run has all methods alike."""

    cases: tuple[Case, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    items: tuple[Item, ...]
    composed: Mapping[tuple[str, str, int], str]
    """Key of the picture of (case, method, seed)."""


@dataclass(frozen=True)
class Contents:
    """Hashes of the files that affect pictures: the model's, and each LoRA's by name."""

    model: str
    loras: Mapping[str, str]

    def key(self, studio: Studio, item: Mapping[str, Any], uses: Sequence[LoraUse]) -> str:
        """The key of a picture: a hash of everything that affects it, files by their content."""
        shared = {name: value for name, value in asdict(studio).items() if name not in ("model", "files")}
        shared["device"] = studio.device.split(":")[0]
        loras = {use.name: self.loras[use.name] for use in uses}
        return digest([__version__, self.model, loras, shared, dict(item)])


def reference_prompt(concept: Concept, template: str) -> str:
    """A concept's reference prompt: `template` with {words} replaced by its LoRA tags, trigger words, words and own
    words.
    """
    tags = "".join(_tag(use) for use in concept.loras) + " " * bool(concept.loras)
    own = f", {concept.say}" if concept.say else ""
    return template.replace("{words}", tags + " ".join([*concept.triggers, concept.words]) + own)


def _tag(use: LoraUse) -> str:
    rank = f":dyn={use.dyn}" if use.dyn is not None else ""
    return f"<lora:{use.name}:te={use.te:g}:unet={use.unet:g}{rank}>"


def uses_of(composition: Composition) -> tuple[LoraUse, ...]:
    """Every LoRA of a composition."""
    around = (*composition.styles, *composition.background, *composition.off)
    own = [use for concept in composition.concepts for use in (*concept.loras, *concept.styles)]
    return tuple(dict.fromkeys((*own, *around)))


class Planner:
    """Builds the work list."""

    def __init__(self, studio: Studio, contents: Contents, references: int, template: str) -> None:
        self.studio, self.contents, self.references, self.template = studio, contents, references, template

    def work(
        self, prompts: Sequence[tuple[str, str, str, str]], compositions: Sequence[Composition],
        methods: Sequence[Method], seeds: Sequence[int],
    ) -> Work:  # fmt: skip
        """`prompts` are (id, kind, text, text for CLIP-T), one for each composition."""
        items: dict[str, Item] = {}
        cases: list[Case] = []
        composed: dict[tuple[str, str, int], str] = {}
        for (name, kind, text, plain), composition in zip(prompts, compositions, strict=True):
            own = [list(self._references(concept)) for concept in composition.concepts]
            items |= {item.key: item for some in own for item in some}
            subjects = tuple(
                Subject(concept.label, concept.words, some[0].prompt, tuple(item.key for item in some))
                for concept, some in zip(composition.concepts, own, strict=True)
            )
            cases.append(Case(name, kind, text, plain, subjects))
            for seed in seeds:
                for method in methods:
                    item = self._composed(name, text, method, seed, uses_of(composition))
                    items.setdefault(item.key, item)
                    composed[name, method.name, seed] = item.key
        return Work(tuple(cases), tuple(methods), tuple(seeds), tuple(items.values()), composed)

    def _references(self, concept: Concept) -> Iterator[Item]:
        prompt = reference_prompt(concept, self.template)
        for number in range(self.references):
            title = f"reference {number + 1} of {concept.label}"
            seed = REFERENCE_SEED + number
            # A single LoRA is rendered without CLoRA, whatever the method.
            given = {"prompt": prompt, "seed": seed, "settings": "plain"}
            key = self.contents.key(self.studio, given, concept.loras)
            yield Item(key, title, prompt, seed, KNOWN["merge"])

    def _composed(self, name: str, text: str, method: Method, seed: int, uses: Sequence[LoraUse]) -> Item:
        given = {"prompt": text, "seed": seed, "settings": method.deciding()}
        key = self.contents.key(self.studio, given, uses)
        return Item(key, f"{name}, {method.name}, seed {seed}", text, seed, method.settings)
