"""Pictures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_image(
    image: Any, path: str, basename: str, seed: Any = None, prompt: Any = None, extension: str = "png",
    info: Any = None, p: Any = None, suffix: str = "",
) -> tuple[str, None]:  # fmt: skip
    """Save with a number of its own; the file and no text file."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{len(list(folder.iterdir())):05}-{seed}{suffix}.{extension}"
    image.save(file)
    return str(file), None
