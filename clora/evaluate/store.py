"""The folder of a run: every result is written at once, so that an interrupted run can continue."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import CLoRAError, cut


def digest(value: Any) -> str:
    """A short hash of any JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:20]


def unwritten(path: Path, error: OSError) -> CLoRAError:
    """The error for a result that cannot be written; the run can continue later."""
    why = error.strerror or type(error).__name__
    return CLoRAError(
        f"{path} cannot be written ({why}): free some space or correct the permissions, then run the command again."
    )


class Log:
    """A file of JSON lines with keys; the last line of a key counts, and truncated lines are ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, dict[str, Any]] = {}
        content = path.read_bytes() if path.exists() else b""
        self._cut = bool(content) and not content.endswith(b"\n")
        for line in content.splitlines():
            try:
                entry = json.loads(line)
                self._known[entry["key"]] = entry
            except (ValueError, KeyError, TypeError, RecursionError):
                continue

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def get(self, key: str) -> dict[str, Any] | None:
        """The entry of a key."""
        return self._known.get(key)

    def put(self, key: str, entry: dict[str, Any]) -> None:
        """Append an entry and close the file before returning."""
        full = {"key": key, **entry}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("\n" if self._cut else "") + json.dumps(full) + "\n")
        except OSError as error:
            raise unwritten(self.path, error) from None
        self._cut = False
        self._known[key] = full


class Store:
    """The folder of a run: `pictures/KEY.png`, and logs of pictures, of boxes and of feature vectors."""

    def __init__(self, folder: Path) -> None:
        try:
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            trial = folder / "pictures" / f".{secrets.token_hex(6)}.part"
            trial.touch()
            trial.unlink()
        except (OSError, ValueError) as error:
            raise CLoRAError(f"The folder {cut(str(folder))} cannot be written: choose another with --out.") from error
        self.folder = folder
        self.pictures = Log(folder / "pictures.jsonl")
        self.boxes = Log(folder / "boxes.jsonl")
        self.vectors = Log(folder / "vectors.jsonl")
        self.hashes = Log(folder / "hashes.jsonl")

    def path(self, key: str) -> Path:
        """The path of a picture."""
        return self.folder / "pictures" / f"{key}.png"

    def has_picture(self, key: str) -> bool:
        """Whether a picture is drawn: it has a line in the log, and its file exists."""
        return key in self.pictures and self.path(key).is_file()

    def put_picture(self, key: str, picture: Image.Image, entry: dict[str, Any]) -> None:
        """Save a picture atomically, then write its line in the log."""
        unfinished = self.path(key).with_suffix(".part")
        try:
            picture.save(unfinished, format="PNG")
            os.replace(unfinished, self.path(key))
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise unwritten(self.path(key), error) from None
        self.pictures.put(key, entry)

    def picture(self, key: str) -> Image.Image:
        """Load a picture as RGB."""
        with Image.open(self.path(key)) as image:
            picture: Image.Image = image.convert("RGB")
        return picture

    def content_of(self, path: Path) -> str:
        """A hash of a file's bytes, or of all files below a folder.

        A file is read again only if its size or time has changed. Raises: CLoRAError if it cannot be read.
        """
        try:
            if path.is_dir():
                return digest([[str(p.relative_to(path)), self._file(p)] for p in _files(path)])
            return self._file(path)
        except OSError as error:
            raise CLoRAError(f"{path} cannot be read: check the path and its permissions.") from error

    def _file(self, path: Path) -> str:
        real = path.resolve()
        state = real.stat()
        key = f"{real}|{state.st_size}|{state.st_mtime_ns}"
        known = self.hashes.get(key)
        if known is None:
            content = hashlib.sha256()
            with real.open("rb") as file:
                while block := file.read(1 << 22):
                    content.update(block)
            self.hashes.put(key, {"sha256": content.hexdigest()})
            return content.hexdigest()
        return str(known["sha256"])


def _files(folder: Path) -> Iterable[Path]:
    """The files of a model's folder that affect its output: all but hidden files, pictures and Markdown."""
    files = (path for path in folder.rglob("*") if path.is_file())
    kept = (path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in kept if path.suffix.lower() not in (".png", ".jpg", ".md"))
