"""The LoRAs of the chosen folders as cards: name, picture, and the text that a click inserts into the prompt."""

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
from ..lora.file import name_of, read_metadata

THUMBNAILS = EMBEDDED_ASSETS / "thumbnails"
SIZE = 128
MAX_CARDS = 300
"""Further LoRAs get no card; they can still be named in the prompt."""

_ROLES = {"lava": "background", **dict.fromkeys(("pencil", "gold", "comic", "detail", "vivid"), "style")}
"""The embedded LoRAs that do not draw a subject."""


@dataclass(frozen=True)
class Card:
    """A LoRA. `insert` is its text for the prompt, "" if the name is not allowed in a tag; `picture` is a data URL."""

    name: str
    insert: str
    picture: str = ""


def lora_cards(folders: Sequence[Path]) -> list[Card]:
    """The cards of all LoRA files below the folders, sorted by name."""
    files = {
        path: path.relative_to(folder).with_suffix("").as_posix()
        for folder in folders
        for path in sorted(folder.rglob("*.safetensors"))
    }
    count = Counter(name_of(path) for path in files)
    # Files of the same name are distinguished by their folders, as in a tag.
    named = {path: name_of(path) if count[name_of(path)] == 1 else inner for path, inner in files.items()}
    shown = sorted(named.items(), key=lambda item: item[1].casefold())[:MAX_CARDS]
    return [Card(name, insertion(name, _phrase(path), _role(path)), _picture(path)) for path, name in shown]


def insertion(name: str, phrase: str = "", role: str = "") -> str:
    """The tag of a LoRA and its trigger phrase, "" if the name contains a character that ends a tag."""
    if any(mark in name for mark in ":<>\n"):
        return ""
    tag = f"<lora:{name}:1:role={role}>" if role else f"<lora:{name}:1>"
    return f"{tag} {phrase}".strip()


def _phrase(path: Path) -> str:
    try:
        phrase = read_metadata(path).get("modelspec.trigger_phrase", "")
    except CLoRAError:
        return ""  # the error about the file is shown when the LoRA is used
    return " ".join(phrase.replace("<", " ").replace(">", " ").split())


def _role(path: Path) -> str:
    return _ROLES.get(path.stem, "") if path.parent.parent == THUMBNAILS.parent else ""


def _picture(path: Path) -> str:
    """The picture beside the file, named as in WebUIs, or the thumbnail of an embedded LoRA."""
    beside = [path.with_name(f"{path.stem}{end}") for end in (".preview.png", ".png", ".jpg", ".jpeg", ".webp")]
    embedded = [THUMBNAILS / f"{path.stem}.webp"] if path.parent.parent == THUMBNAILS.parent else []
    for path in (*embedded, *beside):
        if path.is_file():
            try:
                with Image.open(path) as image:
                    image.thumbnail((SIZE, SIZE))
                    return _webp_uri(image.convert("RGB"))
            except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
                continue
    return ""


def _webp_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
