"""Generators of hostile texts, values and files; everything follows from the seed of a `random.Random`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from clora.prompt.tags import Role
from clora.settings import BY_NAME, SETTINGS

_PIECES = (
    "a cat", "a dog", "and", "with", "in", ",", ".", "\n", "BREAK", "AND", "1girl", "sks person", "(", ")", "[", "]",
    ":", "|", "<", ">", "\\", "=", "#", "@", "::", "(cat:1.3.3)", "(cat:1.2)", "[cat:dog:0.5]", "[cat|dog]",
    "[cat::999999]", "__wild__", "{a|b}", "<lora:", "<lora:genie:1>", "<lora:singer:1>",
    "<lora:lava:1:role=background>", "<lyco:x>",
    "\ud800", "\udfff", "\ud83d", "\x00", "\x1b[31m", "\u202e", "\ufeff", "\u2028", "e\u0301" * 8, "猫", "🐈‍⬛", "٣",
    "١.٢",
    "&lt;", "<script>", "%s", "{}", "{0.__class__}", "../../etc/passwd", "~nosuchuser", "nan", "inf", "1e308", "-0",
)  # fmt: skip
_NUMBERS = (
    "0", "1", "-1", "0.8", "1e308", "-1e308", "1e309", "1e6", "1e-320", "nan", "inf", "-inf", "1_000", "0x10", "٣", "½",
    "9" * 400, "9" * 5000, "1.3.3", "", " ", "1,5", "+1", "--1", "1001", "1000000", "1000000000", "\ud800", "1\x00",
)  # fmt: skip
_KEYS = (
    "te", "unet", "dyn", "words", "nth", "trigger", "role", "place", "say", "lbw", "start", "trigge", "\ud800",
    "x" * 300,
)  # fmt: skip
_ROLES = (*(role.value for role in Role), "style@cat", "style@", "STYLE", "villain")
_PLACES = (
    "left",
    "right",
    "middle",
    "0 0 50 50",
    "0 0 0 0",
    "nan 0 1 1",
    "1e308 0 1 1",
    "-1 0 5 5",
    "a b c d",
    "90 0 50 5",
)


def text(rng: random.Random, longest: int = 12) -> str:
    """A text of hostile pieces, sometimes very long or random characters."""
    kind = rng.random()
    if kind < 0.05:
        return rng.choice(_PIECES) * rng.choice((50, 300, 900))
    if kind < 0.15:
        return "".join(chr(rng.randrange(0x11000)) for _ in range(rng.randrange(40)))
    return rng.choice(("", " ", ", ")).join(rng.choices(_PIECES, k=rng.randrange(longest)))


def number(rng: random.Random) -> str:
    """A number, or what pretends to be one."""
    return rng.choice(_NUMBERS) if rng.random() < 0.7 else text(rng, 3)


def tag(rng: random.Random) -> str:
    """A LoRA tag, mostly of an embedded LoRA."""
    name = rng.choice(("genie", "singer", "peacock", "pencil", "lava")) if rng.random() < 0.7 else text(rng, 4)
    parts = [name, *([number(rng) if rng.random() < 0.4 else "1"] if rng.random() < 0.9 else [])]
    for _ in range(rng.choice((0, 0, 0, 1, 2, 5))):
        key = rng.choice(_KEYS)
        value = rng.choice(
            (rng.choice(_ROLES), rng.choice(_PLACES), "cat", "person", "cat#2", number(rng), text(rng, 4))
        )
        parts.append(f"{key}={value}" if rng.random() < 0.9 else value)
    return f"<{'clora' if rng.random() < 0.15 else 'lora'}:{':'.join(parts)}>"


def prompt(rng: random.Random) -> str:
    """A prompt, often with two concepts among hostile text."""
    if rng.random() < 0.3:
        return f"{text(rng, 3)}a {tag(rng)} sks person {text(rng, 3)} and a {tag(rng)} cat {text(rng, 3)}"
    return " ".join(rng.choice((tag, text, lambda rng: text(rng, 3)))(rng) for _ in range(rng.randrange(1, 8)))


def deep(rng: random.Random) -> Any:
    """A value nested deeply, but so that JSON reads it."""
    value: Any = 1
    for _ in range(rng.choice((5, 100, 800))):
        value = [value] if rng.random() < 0.7 else {"a": value}
    return value


def value(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value of any type."""
    plain: tuple[Callable[[], Any], ...] = (
        lambda: text(rng, 4), lambda: number(rng), lambda: None, lambda: rng.choice((True, False)),
        lambda: rng.choice((0, 1, -1, 0.5, 1e308, float("nan"), float("inf"), -float("inf"), 2**63, 10**400, 10**5000)),
        lambda: rng.randrange(-5, 300), lambda: [0.1] * rng.choice((1, 99, 100_000)), lambda: deep(rng),
    )  # fmt: skip
    if depth < 2 and rng.random() < 0.25:
        many = range(rng.randrange(4))
        return rng.choice(([value(rng, depth + 1) for _ in many], {text(rng, 2): value(rng, depth + 1) for _ in many}))
    return rng.choice(plain)()


def json_text(rng: random.Random) -> str:
    """JSON, damaged JSON, or nesting that no parser takes."""
    if rng.random() < 0.1:
        return rng.choice(
            ("[" * 100_000, '{"a":' * 50_000, "[" * 1000 + "]" * 1000, '{"a": ' + "9" * 5000 + "}", "\ufeff{}")
        )
    try:
        good = json.dumps(value(rng))
    except ValueError:  # an integer of thousands of digits
        good = '{"cat": ' + "9" * 5000 + "}"
    if rng.random() < 0.2:
        cut = rng.randrange(len(good) + 1)
        good = good[:cut] + rng.choice(("", "]", "}", '"', "\\ud800", "\x00")) + good[cut:]
    return good


def setting_value(rng: random.Random, name: str) -> Any:
    """A setting's default as value or text, and sometimes a hostile one."""
    known = BY_NAME.get(name)
    return (
        value(rng) if known is None or rng.random() < 0.25 else rng.choice((known.default, known.text(known.default)))
    )


def fields(rng: random.Random) -> dict[str, Any]:
    """The API's object, with some of its fields hostile."""
    found: dict[str, Any] = {}
    for _ in range(rng.randrange(5)):
        setting = rng.choice(SETTINGS)
        found[setting.name] = setting_value(rng, setting.name)
    for name in ("enabled", "preset", "corrections", "nonsense"):
        if rng.random() < 0.2:
            found[name] = value(rng)
    if rng.random() < 0.3:
        found["corrections"] = corrections(rng)
    return found


def corrections(rng: random.Random) -> Any:
    """Corrections as an object, as JSON or as lines."""
    names = ("genie", "singer", "cat", text(rng, 2))
    keys = ("words", "trigger", "role", "place", "nonsense")
    table = {
        rng.choice(names): {
            rng.choice(keys): rng.choice((text(rng, 3), rng.choice(_PLACES), image_url(rng), painted(rng)))
            for _ in "ab"
        }
        for _ in range(rng.randrange(3))
    }
    lines = "\n".join(f"{name}: " + ", ".join(f"{k}={v}" for k, v in row.items()) for name, row in table.items())
    return rng.choice((table, json.dumps(table), lines, json_text(rng), value(rng)))


def image_url(rng: random.Random) -> str:
    """A data URL that is hardly ever a picture."""
    import base64

    starts = (
        b"\x89PNG\r\n\x1a\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"GIF89a",
        b"\xff\xd8\xff",
        b"RIFF",
        b"",
    )
    data = base64.b64encode(rng.choice(starts) + rng.randbytes(rng.randrange(60))).decode()
    return f"data:image/{rng.choice(('png', 'jpeg', 'svg+xml'))};base64,{data[: rng.randrange(len(data) + 1)]}"


def painted(rng: random.Random) -> str:
    """The text of a painted mask, most often damaged."""
    size = f"{rng.choice((0, 1, 6, 256, 999))}x{rng.choice((1, 4, 256))}"
    digits = rng.choice(("4A", "HDDAF", "", "".join(rng.choices("ABCZaz09-_!é", k=rng.randrange(40)))))
    return " ".join(("painted", size, digits))[rng.randrange(3) :]


def infotext(rng: random.Random) -> str:
    """A picture's parameters as pasted."""
    named = [
        rng.choice(("Steps", "Seed", "Size", "CFG scale", "Model", "CLoRA", "CLoRA corrections", text(rng, 2)))
        for _ in "abc"
    ]
    named += [f"CLoRA {rng.choice(SETTINGS).label.lower()}" for _ in range(rng.randrange(4))]
    values = [f"{number(rng)}x{number(rng)}" if name == "Size" else number(rng) for name in named]
    rest = ", ".join(f"{name}: {value}" for name, value in zip(named, values, strict=True))
    return f"{prompt(rng)}\nNegative prompt: {text(rng, 3)}\nSteps: {rng.choice(('20', number(rng)))}, {rest}"


def lora_bytes(rng: random.Random, good: bytes) -> bytes:
    """A LoRA file: a good one damaged, or a header of hostile JSON."""
    if rng.random() < 0.5:
        content = bytearray(good)
        for _ in range(rng.choice((1, 1, 2, 8))):
            content[rng.randrange(len(content) if rng.random() < 0.3 else 400)] = rng.randrange(256)
        return bytes(content[: rng.choice((len(content), rng.randrange(len(content))))])
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header: Any = {
        text(rng, 2): rng.choice((entry, value(rng))),
        "__metadata__": rng.choice(({"a": text(rng)}, value(rng))),
    }
    try:
        head = json.dumps(header).encode() if rng.random() < 0.8 else json_text(rng).encode("utf-8", "surrogatepass")
    except ValueError:
        head = b'{"a": ' + b"9" * 5000 + b"}"
    length = len(head) if rng.random() < 0.9 else rng.choice((0, 1, 2**32, 2**63, 2**64 - 1))
    return length.to_bytes(8, "little") + head + bytes(4)


def preset_file(rng: random.Random) -> bytes:
    """The file of the user's presets."""
    if rng.random() < 0.4:
        return json_text(rng).encode("utf-8", "surrogatepass")
    names = [rng.choice(("mine", "default", "exact", "\ud800", text(rng, 3))) for _ in "ab"]
    try:
        return json.dumps({name: {rng.choice(list(BY_NAME)): value(rng) for _ in "abc"} for name in names}).encode()
    except ValueError:
        return b"{"
