"""The page's own HTML. Text from users, files and models is always escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..pictures import concept_color
from ..prompt import Composition
from ..settings.infotext import MASKS, read_infotext
from .cards import Card
from .engine import Progress


@dataclass(frozen=True)
class Figure:
    """A picture of the result with its caption; `name` is its file name for saving, `text` its parameters."""

    image: Image.Image
    caption: str
    name: str
    text: str = ""


def png_uri(image: Image.Image, text: str = "") -> str:
    """A picture as a data URL of a PNG, with its parameters inside as the WebUI writes them."""
    info = PngInfo()
    if text:
        info.add_text("parameters", text)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def highlight_html(prompt: str, composition: Composition | None) -> str:
    """The text without tags, with each concept's words in its colour; without colours if nothing is composed."""
    if composition is None or not composition.composes:
        text = prompt if composition is None else composition.text
        return f'<p class="clora-words">{escape(text)}</p>' if text.strip() else ""
    base, pieces, at = composition.variants[0], list[str](), 0
    marks = [(span, number) for number, spans in enumerate(base.subjects) for span in spans]
    for span, number in sorted(marks):
        names = composition.concepts[number].names if composition.concepts[number].loras else "no LoRA"
        colour = "rgb({}, {}, {})".format(*concept_color(number))
        words = escape(base.text[span.start : span.end])
        pieces.append(escape(base.text[at : span.start]))
        pieces.append(f'<mark style="background: {colour}">{words} <small>{escape(names)}</small></mark>')
        at = span.end
    return f'<p class="clora-words">{"".join(pieces)}{escape(base.text[at:])}</p>'


def cards_html(cards: Sequence[Card]) -> str:
    """A button for each LoRA; the page's script inserts its text into the prompt."""
    if not cards:
        return '<p class="clora-empty">This folder contains no LoRA files (.safetensors).</p>'
    return f'<div class="clora-cards" role="group" aria-label="LoRAs">{"".join(map(_card_html, cards))}</div>'


def _card_html(card: Card) -> str:
    name = escape(card.name)
    picture = (
        f'<img src="{card.picture}" alt="">'
        if card.picture
        else f'<span aria-hidden="true">{escape(card.name[:1])}</span>'
    )
    title = escape(f"Insert {card.insert}" if card.insert else "This name is not allowed in a tag: rename the file")
    state = f'data-insert="{escape(card.insert)}"' if card.insert else "disabled"
    return (
        f'<button type="button" class="clora-card" title="{title}" {state}>'
        f'{picture}<span class="clora-card-name">{name}</span></button>'
    )


def progress_html(now: Progress) -> str:
    """A progress bar with the phase as text."""
    value = f'value="{now.done}" max="{now.total}"' if now.total else ""
    bar = f'<progress aria-label="Progress of the picture" {value}></progress>'
    return f'<p class="clora-progress">{bar}<span>{escape(now.text)}</span></p>'


def problem_html(message: str) -> str:
    """An error."""
    return f'<p class="clora-problem" role="alert">{escape(message)}</p>'


def notes_html(notes: Sequence[str], good: str = "") -> str:
    """Notes and warnings, one per line, after a line `good` about what was done."""
    first = f'<p class="clora-good" role="status">{escape(good)}</p>' if good else ""
    return first + "".join(f'<p class="clora-note">{escape(note)}</p>' for note in notes)


def slider_html(left: Figure, right: Figure) -> str:
    """Two pictures of the same size on top of each other, with a slider that moves the border between them."""
    return (
        '<div class="clora-compare" style="--at: 50%">'
        f'<div class="clora-two"><img src="{png_uri(left.image)}" alt="{escape(left.caption)}">'
        f'<img class="clora-over" src="{png_uri(right.image)}" alt="{escape(right.caption)}"></div>'
        f'<label><span>{escape(left.caption)}</span><input type="range" min="0" max="100" value="50" '
        f'aria-label="Border between {escape(left.caption)} and {escape(right.caption)}">'
        f"<span>{escape(right.caption)}</span></label></div>"
    )


def result_html(figures: Sequence[Figure], settings: str, compared: tuple[Figure, Figure] | None = None) -> str:
    """The pictures side by side, the slider that compares two of them, and the settings with a copy button."""
    shown = "".join(_figure_html(figure) for figure in figures)
    slider = slider_html(*compared) if compared else ""
    return (
        f'<div class="clora-figures">{shown}{slider}</div><div class="clora-settings">'
        f'<button type="button" class="clora-copy" data-copy="{escape(settings)}">Copy settings</button>'
        f'<span class="clora-copied" role="status"></span><pre>{escape(settings)}</pre></div>'
    )


def _figure_html(figure: Figure) -> str:
    source, caption = png_uri(figure.image, figure.text), escape(figure.caption)
    found = read_infotext(figure.text)
    masks = found.fields.get(MASKS, "") if found else ""
    data = f' data-masks="{escape(masks)}"' if masks else ""  # for the canvas
    return (
        f'<figure{data}><img src="{source}" alt="{caption}"><figcaption>{caption} '
        f'<a href="{source}" download="{escape(figure.name)}" aria-label="Save {caption}">save</a>'
        "</figcaption></figure>"
    )
