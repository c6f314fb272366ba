"""The tensors of a LoRA file, gathered by the layer of the model that they change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .adapter import AdapterSettings
from .file import LoraFile
from .keys import aliases, bundled_embedding, locate_module
from .target import Tables, Target

_SHARED = ("vera_A", "vera_B")  # VeRA's random matrices, saved once for all layers


@dataclass
class FileModule:
    """The tensors for one layer: `tensors` by suffix, `keys` the module key in the file of each of them."""

    component: str
    target: Target
    tensors: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The first module key in the file."""
        return next(iter(self.keys.values()))

    def full_keys(self, unused_by: set[str]) -> Iterator[str]:
        """Keys of the tensors whose suffixes are not in the set."""
        return (f"{key}.{suffix}" for suffix, key in self.keys.items() if suffix not in unused_by)


@dataclass
class Grouped:
    """Modules in the order of the file; keys that belong to no layer; names of textual inversions inside the file.

    `below` are those of the unplaced keys whose name starts with a layer's: tensors of a format that is not known.
    `foreign`: an unplaced key names a layer of a component that the model has.
    """

    modules: list[FileModule] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)
    embeddings: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)
    foreign: bool = False


def group(lora: LoraFile, tables: Tables, settings: AdapterSettings) -> Grouped:
    """Find the layers of a file's modules.

    A layer under two names (SGM and diffusers, or a half-converted file) is one module. A tensor that is there twice
    counts once: the first name.
    """
    grouped = Grouped()
    by_target: dict[tuple[str, Target], FileModule] = {}
    for key, tensors in lora.tensors.items():
        embedding = bundled_embedding(key)
        if embedding is not None:
            grouped.embeddings.append(embedding)
            continue
        found = _find(key, tables)
        if found is None:
            names = [f"{key}.{suffix}".lstrip(".") for suffix in tensors]
            grouped.unplaced.extend(names)
            components, _ = locate_module(key)
            grouped.foreign |= any(component in tables for component in components)
            if _find(key.rpartition(".")[0], tables) or _find(key.rpartition("_lora")[0], tables):
                grouped.below.extend(names)
            continue
        module = by_target.setdefault(found, FileModule(*found))
        if tensors.keys() & module.tensors.keys():
            grouped.unplaced.extend(f"{key}.{suffix}" for suffix in tensors)
            continue
        module.tensors |= tensors
        module.keys |= dict.fromkeys(tensors, key)
    grouped.modules = list(by_target.values())
    _share_projections(lora, grouped, settings)
    return grouped


def _find(key: str, tables: Tables) -> tuple[str, Target] | None:
    components, name = locate_module(key)
    for component in components:
        table = tables.get(component, {})
        for alias in aliases(name):
            if alias in table:
                return component, table[alias]
    return None


def _share_projections(lora: LoraFile, grouped: Grouped, settings: AdapterSettings) -> None:
    """Give VeRA's shared matrices to each of its modules; files without them have the seed in their settings."""
    users = [module for module in grouped.modules if "vera_lambda_b" in module.tensors]
    if not users:
        return
    shared: Mapping[str, Tensor] = {
        suffix: of[suffix] for of in lora.tensors.values() for suffix in _SHARED if suffix in of
    }
    if shared.keys() != set(_SHARED):
        shared = _seeded_projections(users, settings)
    for module in users:
        module.tensors.update(shared)
    grouped.unplaced = [key for key in grouped.unplaced if key.rpartition(".")[2] not in shared]


def _seeded_projections(users: list[FileModule], settings: AdapterSettings) -> Mapping[str, Tensor]:
    """PEFT's own: uniform within sqrt(6 / columns), at the size of the largest layer, from one generator."""
    seed = settings.get(users[0].component, "projection_prng_key")
    ranks = [module.tensors["vera_lambda_d"].numel() for module in users if "vera_lambda_d" in module.tensors]
    shapes = [module.target.layer().shape for module in users]
    is_seed = isinstance(seed, int) and 0 <= seed < 2**63
    if not is_seed or not ranks or any(len(shape) != 2 for shape in shapes):
        return {}
    generator = torch.Generator().manual_seed(seed)

    def made(rows: int, columns: int) -> Tensor:
        bound = (6.0 / columns) ** 0.5
        return torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)

    down = made(max(ranks), max(shape[1] for shape in shapes))
    return {"vera_A": down, "vera_B": made(max(shape[0] for shape in shapes), max(ranks))}
