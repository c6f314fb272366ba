"""LoRA files (safetensors only): find them by name or alias, check the header, group the tensors by module."""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from ..errors import MAX_QUOTED, CLoRAError, cut
from .keys import split_key

MAX_HEADER = 32_000_000
"""Bytes, most of them training metadata; the largest headers in use have a few million."""
_MAX_MARKS = 1_500_000
"""Brackets and commas of a header outside its texts, for 100,000 tensors; parsed, each takes many times its length."""
_TEXT = re.compile(rb'(?s)"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)')
_NO_MARKS = bytes(set(range(256)) - set(b"[]{},"))
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}
_PICKLED_ENDINGS = (".pt", ".ckpt", ".pth", ".bin")


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
    with _opened(path) as file:
        header = _read_header(file, path)
        file.seek(0)
        content = file.read()
    try:
        # Outside inference mode, because its tensors cannot be saved for a backward pass.
        with torch.inference_mode(False):
            tensors = safetensors.torch.load(content)
    except Exception as error:
        raise _broken(path, f"its tensors cannot be read ({type(error).__name__})") from error
    _check_finite(path, tensors)
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        module, suffix = split_key(key)
        group = groups.setdefault(module, {})
        group[suffix if suffix not in group else key] = tensor
    return LoraFile(path.stem, path, _metadata(header), groups)


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
    path = Path(path)
    with _opened(path) as file:
        return _metadata(_read_header(file, path))


def find_lora(name: str, folders: Iterable[str | Path]) -> Path:
    """The file of a LoRA by its name (file name without ending, or path below a folder) or alias (`ss_output_name`).

    A name wins over an alias, and the exact spelling over another case.
    Raises: CLoRAError if the name is unknown; it suggests similar names.
    """
    known: dict[str, Path] = {}
    for root, path in _files(folders):
        relative = path.relative_to(root).with_suffix("").as_posix()
        known.setdefault(path.stem, path)
        known.setdefault(relative, path)
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


def _opened(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CLoRAError(f'"{path.name}" is a folder, not a LoRA file: use the .safetensors file inside it.')
        if not stat.S_ISREG(mode):
            raise CLoRAError(f'"{path.name}" is a pipe or a device, not a LoRA file: use a .safetensors file.')
        return path.open("rb")
    except (OSError, ValueError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be opened"
        raise CLoRAError(f'The LoRA file "{path.name}" {reason}: check its folder and its name.') from error


def _broken(path: Path, why: str) -> CLoRAError:
    return CLoRAError(f'The LoRA file "{path.name}" is damaged: {why}; download or copy it again.')


def _read_header(file: BinaryIO, path: Path) -> dict[str, Any]:
    """The checked header of a safetensors file: 8 bytes of length, JSON, then the tensors without gaps."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    # A safetensors header of 640 bytes starts like a pickle too, so the length must also be impossible.
    pickled = start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and 8 + length > size)
    if pickled or path.suffix.lower() in _PICKLED_ENDINGS:
        raise CLoRAError(
            f'"{path.name}" is a pickle file, which can run code on your computer, so CLoRA does not open it: convert '
            "it to .safetensors, or use a .safetensors file of this LoRA."
        )
    if size < 8:
        raise _broken(path, "it is empty" if size == 0 else "it ends inside its header")
    if length > MAX_HEADER or length < 2:
        raise _broken(path, "it is not a safetensors file")
    if 8 + length > size:
        raise _broken(path, "it ends inside its header")
    content = file.read(length)
    if not _is_flat(content):
        raise _broken(path, "its header cannot be read")
    try:
        header = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _broken(path, "its header cannot be read") from error
    if not isinstance(header, dict):
        raise _broken(path, "its header is not a JSON object")
    end = max((_check_entry(path, key, entry) for key, entry in header.items() if key != "__metadata__"), default=0)
    held = size - 8 - length
    if end != held:
        raise _broken(
            path, "it ends before its last tensor" if end > held else "it has more data than its header lists"
        )
    return header


def _is_flat(header: bytes) -> bool:
    """Whether a header has at most an object of objects of lists; told before parsing, which takes much memory."""
    marks = _TEXT.sub(b"", header).translate(None, _NO_MARKS)
    if len(marks) > _MAX_MARKS:
        return False
    return not marks.replace(b",", b"").replace(b"[]", b"").replace(b"{}", b"").replace(b"{}", b"")


def _check_entry(path: Path, key: str, entry: Any) -> int:
    """Check the entry of one tensor and return where the tensor ends, in bytes after the header."""
    shown = key[:80]
    if not isinstance(entry, dict):
        raise _broken(path, f"the header entry of {shown!r} is not a JSON object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _broken(path, f"{shown!r} has an unknown dtype")
    sizes, ends = _sizes(shape), _sizes(offsets)
    if sizes is None or ends is None or len(ends) != 2 or len(sizes) > 8:
        raise _broken(path, f"{shown!r} has no valid shape or data offsets")
    begin, end = ends
    if begin > end or (end - begin) * 8 != prod(sizes) * _BITS[dtype]:
        raise _broken(path, f"{shown!r} has a size that does not match its shape")
    return end


def _sizes(value: Any) -> list[int] | None:
    valid = isinstance(value, list) and all(type(item) is int and 0 <= item < 2**62 for item in value)
    return value if valid else None


def _metadata(header: Mapping[str, Any]) -> dict[str, str]:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict):
        return {}
    return {key: value for key, value in metadata.items() if isinstance(value, str)}
