"""Writes the command line's results: pictures with their parameters, masks, comparisons."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL.PngImagePlugin import PngInfo

from ..errors import CLoRAError, cut
from ..hosts.diffusers import Composed
from ..hosts.diffusers.display import overlay_of, parameters
from ..pictures import side_by_side


class Writer:
    """Writes pictures; one that cannot be written where it belongs is saved elsewhere, so that it is not lost."""

    def __init__(self) -> None:
        self._elsewhere: list[Path] = []
        self._why = ""

    def save(self, picture: Any, path: Path, **options: Any) -> Path:
        """Write one picture as PNG; returns its path. Raises: CLoRAError if it can be written nowhere."""
        errors = list[OSError]()
        for folder in (path.parent, Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
            target = folder / path.name if folder == path.parent else folder / f"clora-{secrets.token_hex(4)}.png"
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                _save_whole(picture, target, **options)
            except OSError as error:
                errors.append(error)
                continue
            if errors:
                self._elsewhere.append(target)
                self._why = self._why or f"{cut(str(path))} ({errors[0].strerror or type(errors[0]).__name__})"
            return target
        raise CLoRAError(f"The picture cannot be written to {cut(str(path))} or anywhere else: free some space.")

    def check(self) -> None:
        """Raises: CLoRAError if pictures were saved elsewhere, with their paths."""
        if self._elsewhere:
            paths = ", ".join(map(str, self._elsewhere))
            raise CLoRAError(f"The picture cannot be written to {self._why}: it was saved as {paths}.")


def _save_whole(picture: Any, path: Path, **options: Any) -> None:
    """Write the whole file or nothing."""
    unfinished = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        picture.save(unfinished, format="PNG", **options)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_output(path: Path) -> None:
    """Raises: CLoRAError for a path to which no PNG can be written. It is tried, and nothing of that is left."""
    shown = cut(str(path))
    if path.suffix.lower() != ".png":
        raise CLoRAError(f"The output file {shown} must end in .png: the parameters are stored as PNG text.")
    try:
        if path.is_dir():
            raise CLoRAError(f"The picture cannot be written to {shown}: it is a folder; choose another file.")
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        missing = [folder for folder in path.absolute().parents if not folder.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _try_writing(path)
        finally:
            for folder in missing:
                with suppress(OSError):
                    folder.rmdir()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CLoRAError(f"The picture cannot be written to {shown} ({why}): choose another file.") from None


def _try_writing(path: Path) -> None:
    """Raises: OSError if no file can be written beside `path` under the longest name that a picture may get."""
    trial = path.with_name(f"{path.stem}-clora-masks.png")
    if trial.exists():
        trial = path.with_name(f".{secrets.token_hex(6)}.part")
    trial.touch(exist_ok=False)
    trial.unlink()


def write_composed(composed: Composed, path: Path, *, model: Path | None, writer: Writer | None = None) -> list[Path]:
    """Write the picture and, if it was composed, its masks beside it (NAME-masks.png); returns the written paths.

    Raises: CLoRAError if they had to be saved elsewhere; a `writer` leaves that to its owner.
    """
    own = writer or Writer()
    info = PngInfo()
    info.add_text("parameters", parameters(composed, model))
    written = [own.save(composed.images[0], path, pnginfo=info)]
    overlay = overlay_of(composed)
    if overlay is not None:
        written.append(own.save(overlay, path.with_name(f"{path.stem}-masks.png")))
    if writer is None:
        own.check()
    return written


def write_comparison(merged: Composed, composed: Composed, path: Path, *, model: Path | None) -> Path:
    """Write plain merge, CLoRA and CLoRA's masks side by side, and both pictures beside it (NAME-merge, NAME-clora).

    Raises: CLoRAError if they had to be saved elsewhere.
    """
    writer = Writer()
    write_composed(composed, path.with_name(f"{path.stem}-clora.png"), model=model, writer=writer)
    write_composed(merged, path.with_name(f"{path.stem}-merge.png"), model=model, writer=writer)
    columns = [("plain merge", merged.images[0]), ("CLoRA", composed.images[0])]
    overlay = overlay_of(composed)
    if overlay is not None:
        columns.append(("where each LoRA drew", overlay))
    written = writer.save(side_by_side(columns), path)
    writer.check()
    return written
