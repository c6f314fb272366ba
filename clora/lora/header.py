"""The header of a safetensors file, read and checked before any tensor is."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import CLoRAError

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


def opened(path: Path) -> BinaryIO:
    """The file, opened for reading. Raises: CLoRAError if it is no regular file or cannot be opened."""
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


def damaged(path: Path, why: str) -> CLoRAError:
    """The error for a file that is not as safetensors files are."""
    return CLoRAError(f'The LoRA file "{path.name}" is damaged: {why}; download or copy it again.')


def read_header(file: BinaryIO, path: Path) -> dict[str, Any]:
    """The checked header of a safetensors file: 8 bytes of length, JSON, then the tensors without gaps.

    Raises: CLoRAError for a file that is damaged, a pickle, or has too large a header.
    """
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
        raise damaged(path, "it is empty" if size == 0 else "it ends inside its header")
    if length > MAX_HEADER or length < 2:
        raise damaged(path, "it is not a safetensors file")
    if 8 + length > size:
        raise damaged(path, "it ends inside its header")
    content = file.read(length)
    if not _is_flat(content):
        raise damaged(path, "its header cannot be read")
    try:
        header = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, "its header cannot be read") from error
    if not isinstance(header, dict):
        raise damaged(path, "its header is not a JSON object")
    end = max((_check_entry(path, key, entry) for key, entry in header.items() if key != "__metadata__"), default=0)
    held = size - 8 - length
    if end != held:
        raise damaged(
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
        raise damaged(path, f"the header entry of {shown!r} is not a JSON object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise damaged(path, f"{shown!r} has an unknown dtype")
    sizes, ends = _sizes(shape), _sizes(offsets)
    if sizes is None or ends is None or len(ends) != 2 or len(sizes) > 8:
        raise damaged(path, f"{shown!r} has no valid shape or data offsets")
    begin, end = ends
    if begin > end or (end - begin) * 8 != prod(sizes) * _BITS[dtype]:
        raise damaged(path, f"{shown!r} has a size that does not match its shape")
    return end


def _sizes(value: Any) -> list[int] | None:
    valid = isinstance(value, list) and all(type(item) is int and 0 <= item < 2**62 for item in value)
    return value if valid else None


def metadata_of(header: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a header: its texts only."""
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict):
        return {}
    return {key: value for key, value in metadata.items() if isinstance(value, str)}
