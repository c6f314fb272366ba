"""The one exception whose text is shown to users, and how the user's own text is quoted in it."""

from __future__ import annotations

import re

MAX_QUOTED = 80
"""Characters of a quoted text of the user; the rest is left out of messages."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_QUOTE = re.compile(r'"([^"]*)"')


class CLoRAError(Exception):
    """A user's mistake or an unusable file: one sentence with cause, place and remedy.

    Hosts show `str(error)` as it is (panel, API answer, command line with exit code 2) and stop before sampling. The
    text is one line that any output can encode, and quotes at most `MAX_QUOTED` characters at a time.
    """

    def __init__(self, message: str) -> None:
        line = printable(" ".join(message.splitlines()))
        super().__init__(_QUOTE.sub(lambda quote: f'"{cut(quote[1])}"', line))


def printable(text: str) -> str:
    """The text with every lone surrogate replaced by U+FFFD: JSON can have them, UTF-8 and tokenizers cannot.

    The length stays the same.
    """
    return _SURROGATE.sub("\ufffd", text)


def cut(text: str) -> str:
    """The start of a text, for messages."""
    return text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 1] + "…"


def shown(value: object) -> str:
    """A value of any type and size as messages show it."""
    if isinstance(value, str | bytes | list | tuple):
        value = value[:MAX_QUOTED]
    try:
        return cut(repr(value))
    except (RecursionError, ValueError):  # nested too deeply, or an integer of thousands of digits
        return f"this {type(value).__name__}"
