"""Labels have the letters of their names, whatever fonts Pillow and the machine have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from PIL import ImageFont

from clora.pictures import fonts
from clora.pictures.fonts import font_for, has_letters
from clora.pictures.labels import text_image

_LOAD_DEFAULT = ImageFont.load_default


class Knows:
    """A font of the machine that has some letters; all others look like its mark of a missing one."""

    def __init__(self, letters: str) -> None:
        self.letters = letters

    def getmask(self, text: str, mode: str = "") -> Any:
        class Mask(list[int]):
            size = (1, 1)

        return Mask([ord(text) % 251 + 1 if text in self.letters else 0])


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Each test finds its fonts anew."""
    for kept in (font_for, fonts._own, fonts._of_the_machine):
        kept.cache_clear()
    yield
    for kept in (font_for, fonts._own, fonts._of_the_machine):
        kept.cache_clear()


def machine(monkeypatch: pytest.MonkeyPatch, own: dict[str, Any]) -> None:
    """The machine has these fonts alone."""

    real = ImageFont.truetype

    def truetype(name: Any, size: float, *more: Any, **named: Any) -> Any:
        if not isinstance(name, str):  # Pillow's own font is a file in memory
            return real(name, size, *more, **named)
        if name not in own:
            raise OSError("cannot open resource")
        return own[name]

    monkeypatch.setattr(ImageFont, "truetype", truetype)


def old_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow before 10.1, which AUTOMATIC1111 has: `load_default` takes no size."""
    monkeypatch.setattr(ImageFont, "load_default", lambda: ImageFont.load_default_imagefont())


def test_latin_names_keep_pillows_own_font(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, {"DejaVuSans.ttf": Knows("abc")})
    assert font_for("abc", 12) is fonts._own(12)


def test_other_letters_take_the_first_font_of_the_machine_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    some, chinese = Knows("яab"), Knows("黑猫cat ")
    machine(monkeypatch, {"DejaVuSans.ttf": some, "msyh.ttc": chinese})
    assert font_for("黑猫 cat", 12) is chinese
    assert font_for("яя", 12) is some
    assert font_for("\u3042", 12) is fonts._own(12)  # nobody has it


def test_old_pillow_draws_with_a_font_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    scalable = _LOAD_DEFAULT(20)
    old_pillow(monkeypatch)
    machine(monkeypatch, {})
    small = text_image("genie", 20)
    assert font_for("genie", 20) is None
    font_for.cache_clear()
    fonts._of_the_machine.cache_clear()
    machine(monkeypatch, {"arial.ttf": scalable})
    assert font_for("genie", 20) is scalable
    assert text_image("genie", 20).tobytes() != small.tobytes()
    assert font_for("黑猫", 20) is scalable  # better with marks of missing letters than tiny


def test_old_pillow_without_fonts_still_draws_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    old_pillow(monkeypatch)
    machine(monkeypatch, {})
    assert text_image("黑猫", 20).tobytes() == text_image("??", 20).tobytes()


def test_a_missing_letter_is_seen() -> None:
    own = _LOAD_DEFAULT(16)
    assert has_letters(own, "a cat (genie), 0.8")
    assert not has_letters(own, "a 猫")
