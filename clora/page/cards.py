"""The LoRAs of some folders as cards: name, picture, and what a click writes into the prompt."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..embedded import EMBEDDED_ASSETS
from ..errors import CLoRAError
from ..lora.file import read_metadata

THUMBNAILS = EMBEDDED_ASSETS / "thumbnails"
SIZE = 128
MOST = 300
"""Cards that are shown; a folder with more LoRAs is searched by name in the prompt."""

_ROLES = {"lava": "background", "sketch": "style"}
"""Embedded LoRAs that draw no subject."""


@dataclass(frozen=True)
class Card:
    """One LoRA. `insert` goes into the prompt, empty where the name cannot stand in a tag; `picture` is an address."""

    name: str
    insert: str
    picture: str = ""


def lora_cards(folders: Sequence[Path]) -> list[Card]:
    """The cards of all LoRA files below the folders, in the order of their names."""
    files = {
        path: path.relative_to(folder).with_suffix("").as_posix()
        for folder in folders
        for path in sorted(folder.rglob("*.safetensors"))
    }
    count = Counter(path.stem for path in files)
    # Two files of one name are told apart by their folders, as in a tag.
    named = {path: path.stem if count[path.stem] == 1 else inner for path, inner in files.items()}
    shown = sorted(named.items(), key=lambda item: item[1].casefold())[:MOST]
    return [Card(name, insertion(name, _phrase(path), _role(path)), _picture(path)) for path, name in shown]


def insertion(name: str, phrase: str = "", role: str = "") -> str:
    """The tag of a LoRA and its own words, "" where the name holds a mark that ends a tag."""
    if any(mark in name for mark in ":<>\n"):
        return ""
    tag = f"<lora:{name}:1:role={role}>" if role else f"<lora:{name}:1>"
    return f"{tag} {phrase}".strip()


def _phrase(path: Path) -> str:
    try:
        phrase = read_metadata(path).get("modelspec.trigger_phrase", "")
    except CLoRAError:
        return ""  # the sentence about the file comes when it is used
    return " ".join(phrase.replace("<", " ").replace(">", " ").split())


def _role(path: Path) -> str:
    return _ROLES.get(path.stem, "") if path.parent.parent == THUMBNAILS.parent else ""


def _picture(path: Path) -> str:
    """The picture beside the file, as WebUIs keep it, or the one that comes with an embedded LoRA."""
    beside = [path.with_name(f"{path.stem}{end}") for end in (".preview.png", ".png", ".jpg", ".jpeg", ".webp")]
    embedded = [THUMBNAILS / f"{path.stem}.webp"] if path.parent.parent == THUMBNAILS.parent else []
    for place in (*embedded, *beside):
        if place.is_file():
            try:
                with Image.open(place) as image:
                    image.thumbnail((SIZE, SIZE))
                    return _webp_uri(image.convert("RGB"))
            except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
                continue
    return ""


def _webp_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
