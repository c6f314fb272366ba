"""LoRA files (safetensors only): find them by name or alias, group their tensors by module."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..errors import MAX_QUOTED, CLoRAError, cut
from .header import damaged, metadata_of, opened, read_header
from .keys import split_key

PEFT_NAME, CONFIG_NAME = "adapter_model", "adapter_config.json"
"""What PEFT calls every file, and the settings beside it."""


@dataclass(frozen=True)
class LoraFile:
    """A LoRA as read from disk: `tensors` maps a module key of the file to its tensors by suffix.

    `metadata` is untrusted text: it is never evaluated, and must be escaped before it is put into a page.
    """

    name: str
    path: Path
    metadata: Mapping[str, str] = field(repr=False)
    tensors: Mapping[str, Mapping[str, Tensor]] = field(repr=False)

    @property
    def tensor_count(self) -> int:
        """The number of tensors in the file."""
        return sum(map(len, self.tensors.values()))


def read_lora(path: str | Path) -> LoraFile:
    """Read one LoRA file onto the CPU, in the dtypes of the file.

    The header is checked before any tensor is read.
    Raises: CLoRAError if the file is not a valid safetensors file, or holds NaN or infinite values.
    """
    path = Path(path)
    with opened(path) as file:
        header = read_header(file, path)
        file.seek(0)
        content = file.read()
    try:
        # Outside inference mode, because its tensors cannot be saved for a backward pass.
        with torch.inference_mode(False):
            tensors = safetensors.torch.load(content)
    except Exception as error:
        raise damaged(path, f"its tensors cannot be read ({type(error).__name__})") from error
    _check_finite(path, tensors)
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        module, suffix = split_key(key)
        group = groups.setdefault(module, {})
        group[suffix if suffix not in group else key] = tensor
    return LoraFile(name_of(path), path, metadata_of(header), groups)


def name_of(path: Path) -> str:
    """What a LoRA is called: its file's name, or its folder's where PEFT has named the file, as it names every file."""
    named = path.stem != PEFT_NAME or not path.with_name(CONFIG_NAME).is_file()
    return path.stem if named else path.resolve().parent.name


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises: CLoRAError for a tensor with NaN or infinite values, which would make the whole picture NaN."""
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        plain = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no isfinite
        # A sum shows NaN and infinity in one pass without a mask; only where it is not finite is each value asked.
        if not bool(torch.isfinite(plain.sum(dtype=torch.float64))) and not bool(torch.isfinite(plain).all()):
            raise CLoRAError(
                f'The LoRA file "{path.name}" holds NaN or infinite values in its tensor "{key[:80]}": its training '
                "failed or the file is damaged; use another version of this LoRA."
            )


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file; its tensors are not read. Raises: CLoRAError as `read_lora` does."""
    return read_description(path)[0]


def read_description(path: str | Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """The same, and the names of the tensors. Raises: CLoRAError as `read_lora` does."""
    path = Path(path)
    with opened(path) as file:
        header = read_header(file, path)
    return metadata_of(header), tuple(key for key in header if key != "__metadata__")


def find_lora(name: str, folders: Iterable[str | Path]) -> Path:
    """The file of a LoRA by its name (file name without ending, or path below a folder) or alias (`ss_output_name`).

    A file of PEFT has its folder's name too (see `name_of`), and its own if there is no other such file. A name wins
    over an alias, and the exact spelling over another case.
    Raises: CLoRAError if the name is unknown; it suggests similar names.
    """
    known: dict[str, Path] = {}
    of_peft: dict[str, Path] = {}
    several = False
    for root, path in _files(folders):
        relative = path.relative_to(root).with_suffix("")
        several |= path.stem == PEFT_NAME and path.stem in known and not path.samefile(known[path.stem])
        known.setdefault(path.stem, path)
        known.setdefault(relative.as_posix(), path)
        if name_of(path) != path.stem and relative.parent.name:
            of_peft.setdefault(relative.parent.name, path)
            of_peft.setdefault(relative.parent.as_posix(), path)
    known = {**of_peft, **known}
    if several:  # the name alone would be any of them
        del known[PEFT_NAME]
    wanted = name.removesuffix(".safetensors").replace("\\", "/")
    found = _lookup(wanted, known)
    if found is None:
        aliases = _aliases(known.values())
        found = _lookup(wanted, aliases)
        known = {**aliases, **known}
    if found is not None:
        return found
    raise no_such_lora(name, known)


def no_such_lora(name: str, known: Mapping[str, str | Path]) -> CLoRAError:
    """The error for an unknown name; it suggests similar names among `known` if there are any."""
    by_case = {key.casefold(): key for key in known}
    near = difflib.get_close_matches(
        name[:MAX_QUOTED].removesuffix(".safetensors").casefold(), by_case, n=3, cutoff=0.5
    )
    hint = (
        "did you mean " + " or ".join(f'"{by_case[key]}"' for key in near) + "?"
        if near
        else "put the file into the LoRA folder or correct the name in the prompt."
    )
    return CLoRAError(f'There is no LoRA "{cut(name)}" among the {len(set(known.values()))} found: {hint}')


def _lookup(name: str, known: Mapping[str, Path]) -> Path | None:
    if name in known:
        return known[name]
    return next((path for key, path in known.items() if key.casefold() == name.casefold()), None)


def _files(folders: Iterable[str | Path]) -> Iterator[tuple[Path, Path]]:
    """(folder, file) for every safetensors file below the folders; follows links, reads each real folder once."""
    seen: set[str] = set()
    for root in map(Path, folders):
        for folder, below, names in os.walk(root, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            below.sort()
            for file in sorted(names):
                path = Path(folder, file)
                if file.lower().endswith(".safetensors") and path.is_file():  # a pipe would never end
                    yield root, path


def _aliases(paths: Iterable[Path]) -> dict[str, Path]:
    """ss_output_name -> file, for the files whose header can be read."""
    aliases: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        try:
            alias = read_metadata(path).get("ss_output_name")
        except CLoRAError:
            continue
        if alias:
            aliases.setdefault(alias, path)
    return aliases
