"""A font that has a text's letters: Pillow's own, or one of the machine's where Pillow's knows Latin letters only."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_FILES = (
    "DejaVuSans.ttf", "LiberationSans-Regular.ttf", "arial.ttf", "Arial.ttf", "segoeui.ttf", "Helvetica.ttc",
    "msyh.ttc", "YuGothM.ttc", "msgothic.ttc", "malgun.ttf", "simsun.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc", "SourceHanSans-Regular.ttc",
    "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf",
)  # fmt: skip
"""Fonts of Linux, Windows and macOS; the last fourteen have Chinese, Japanese or Korean letters."""
_NO_LETTER = "\U0010ffff"


@lru_cache(maxsize=64)
def font_for(text: str, size: int) -> Font | None:
    """The first font of `size` pixels that has all letters of the text, or else the first one that there is.

    None if Pillow has none of any size (before 10.1), and the machine none of these.
    """
    first = _own(size)
    if first is not None and has_letters(first, text):
        return first
    for name in _FILES:
        found = _of_the_machine(name, size)
        if found is not None and has_letters(found, text):
            return found
        first = found if first is None else first
    return first


def has_letters(font: Font, text: str) -> bool:
    """Whether the font has every letter: a missing one is drawn as the mark of missing ones."""
    missing = _look(font, _NO_LETTER)
    return all(_look(font, letter) != missing for letter in set(text) if letter.isprintable() and not letter.isspace())


def _look(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter, "L")
    return mask.size, bytes(mask)


@lru_cache(maxsize=16)
def _own(size: int) -> Font | None:
    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError):
        return None


@lru_cache(maxsize=128)
def _of_the_machine(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ImportError):  # not on this machine; a Pillow without FreeType
        return None
