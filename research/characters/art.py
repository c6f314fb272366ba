"""The pictures that scenes are made of: fetched once, cut to their outlines, recoloured, at any size.

The art is `@lobehub/fluent-emoji-3d` (npm, MIT licence), a package of Microsoft's Fluent emoji (MIT). It is needed
for training only. `python -m research.characters.art` fetches it and packs the used pictures into one small file.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .common import options
from .words import CHARACTERS, files

PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
Array = np.ndarray[Any, np.dtype[Any]]


class Art:
    """A source of pictures by file name. `read` gives RGBA pictures cut to their outlines."""

    def __init__(self, read: Callable[[str], Image.Image]) -> None:
        self._read = cache(lambda file: _cut(read(file)))
        self._recoloured = cache(lambda file, recolour: RECOLOURS[recolour](self._read(file)))
        self._drawn = lru_cache(4000)(self._draw)

    def picture(self, file: str, recolour: str | None = None) -> Image.Image:
        """The picture at full size, about 240 pixels."""
        found: Image.Image = self._recoloured(file, recolour) if recolour else self._read(file)
        return found

    def _draw(self, file: str, recolour: str | None, side: int) -> Image.Image:
        picture = self.picture(file, recolour)
        scale = side / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        return picture.resize(size, Image.Resampling.LANCZOS)

    def draw(self, file: str, recolour: str | None, side: int) -> Image.Image:
        """The picture with its longer side `side` pixels long."""
        found: Image.Image = self._drawn(file, recolour, side)
        return found


def _cut(picture: Image.Image) -> Image.Image:
    """The picture without its empty margins; hidden colours are cleared so that resizing has no fringes."""
    picture = picture.convert("RGBA")
    return picture.crop(picture.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox())


def _recolour(change: Callable[[Array, Array, Array], Array]) -> Callable[[Image.Image], Image.Image]:
    """Make a function on pictures of one on brightness (h, w), and unit coordinates x and y, to colours."""

    def recoloured(picture: Image.Image) -> Image.Image:
        values = np.asarray(picture, np.float32)
        light = values[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32) / 255
        y, x = np.mgrid[0 : 1 : picture.height * 1j, 0 : 1 : picture.width * 1j].astype(np.float32)
        colours = np.clip(change(light, x, y), 0, 1) * 255
        return Image.fromarray(np.concatenate([colours, values[..., 3:]], -1).astype(np.uint8))

    return recoloured


def _tabby(light: Array, x: Array, y: Array) -> Array:
    """Silver with dark stripes that run towards the middle; eyes and mouth stay dark."""
    wave = np.sin(2 * np.pi * (y * 5 + 0.9 * np.abs(x - 0.5)))
    striped = (wave > 0.35) & (np.abs(x - 0.5) > 0.2) | (y < 0.38) & (np.abs(np.sin(x * 28)) > 0.8)
    tone = np.where(striped, 0.42, 1.12) * np.clip(light * 1.15, 0, 1)
    dark = light < 0.4
    colours: Array = np.where(dark[..., None], light[..., None] * [0.6, 0.5, 0.7], tone[..., None] * [0.82, 0.88, 1.0])
    return colours


def _mint(light: Array, x: Array, y: Array) -> Array:
    """Mint green with violet spots."""
    rows = np.floor(y * 7)
    spots = (np.mod(x * 7 + 0.5 * np.mod(rows, 2), 1) - 0.5) ** 2 + (np.mod(y * 7, 1) - 0.5) ** 2 < 0.085
    tone = np.clip(light * 1.35, 0, 1.1)[..., None]
    colours: Array = np.where(spots[..., None], tone * [0.55, 0.3, 0.85], tone * [0.5, 1.0, 0.8])
    return np.where((light < 0.35)[..., None], light[..., None] * [0.5, 0.5, 0.6], colours)


RECOLOURS: dict[str, Callable[[Image.Image], Image.Image]] = {"tabby": _recolour(_tabby), "mint": _recolour(_mint)}


def packed(path: Path) -> Art:
    """The art of a file that `main` wrote."""
    archive = zipfile.ZipFile(path)
    return Art(lambda file: Image.open(io.BytesIO(archive.read(f"{file}.webp"))))


def stand_in() -> Art:
    """Plain coloured shapes instead of the art, for tests: a file always has the same."""

    def shape(file: str) -> Image.Image:
        rng = np.random.default_rng(list(file.encode()))
        y, x = np.mgrid[-1:1:240j, -1:1:240j]
        inside = np.abs(x) ** rng.uniform(1, 4) + np.abs(y) ** rng.uniform(1, 4) < 1
        values = np.zeros((240, 240, 4), np.uint8)
        values[..., :3] = rng.integers(40, 250, 3)
        values[..., 3] = 255 * inside
        return Image.fromarray(values)

    return Art(shape)


def fetch(folder: Path) -> Path:
    """Fetch the package with npm and write the pictures in use to `art.zip`."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=folder, check=True, capture_output=True, text=True)
    with (
        tarfile.open(folder / done.stdout.strip().splitlines()[-1]) as package,
        zipfile.ZipFile(folder / "art.zip", "w") as archive,
    ):
        for file in files():
            member = package.extractfile(f"package/assets/{file}.webp")
            assert member is not None
            archive.writestr(f"{file}.webp", member.read())
        licence = package.extractfile("package/LICENSE") if "package/LICENSE" in package.getnames() else None
        archive.writestr("LICENSE", licence.read() if licence else f"MIT, {PACKAGE}")
    return folder / "art.zip"


def main() -> None:
    """Fetch the art."""
    args = options(__doc__ or "").parse_args()
    path = fetch(args.work)
    print(path, path.stat().st_size, "bytes,", len(files()), "pictures,", len(CHARACTERS), "characters held out")


if __name__ == "__main__":
    main()
