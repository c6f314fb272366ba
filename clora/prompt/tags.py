"""Tags in a prompt: `<lora:name:te:unet:words=cat:trigger=sks:role=style>`; `<clora:cat:place=left>` without a LoRA."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from ..errors import CLoRAError, cut
from ..lora.block_weights import read_block_weights
from .region import Region, parse_region
from .render import Edit, render
from .tag_items import OWN_ARGUMENTS, WORDS_ARGUMENTS, named_arguments, split_items
from .text import Span

_TAG = re.compile(r"<(lora|lyco|clora):([^<>]*)>")
MAX_WEIGHT = 1000
"""Larger weights overflow in half precision, and draw nothing long before."""
_PRESET = re.compile(r"(?!(?:nan|inf|infinity)$)[A-Za-z][\w-]*", re.IGNORECASE)
_LBW = re.compile(r"^\s*(?:lbw|w)=")


class Role(enum.Enum):
    """What a LoRA is used for."""

    CONCEPT = "concept"
    STYLE = "style"
    SUBJECT_STYLE = "style@"
    BACKGROUND = "background"
    OFF = "off"


@dataclass(frozen=True)
class LoraTag:
    """One tag as written.

    `te` and `unet` are the strengths of the text encoder's and the UNet's half; `dyn` keeps only that many ranks
    (None: all). `words` is the raw text ("cat", or "cat#2" for the second "cat"), `role_words` that of
    `role=style@WORDS`. `region` is what `place=` asks for. `role_given` and `weight_given` are true if the tag has
    them, false for the default. `blocks` are the weights by block of the UNet (`lbw=1,0,...`), empty without any.
    `say` are the subject's own words, as written ("" and None: none; "" keeps a correction from giving some).
    `ignored` holds the arguments of other extensions as written ("lbw=OUTALL"). `span` is the tag itself in the prompt.
    `mistake` says what cannot be read in it; then the rest holds what can. `without_lora`: a `<clora:WORDS>` tag, a
    subject with words and a region only; its `name` are its words.
    """

    name: str
    span: Span
    te: float = 1.0
    unet: float = 1.0
    dyn: int | None = None
    words: str | None = None
    trigger: str | None = None
    trigger_given: bool = False
    region: Region | None = None
    role: Role = Role.CONCEPT
    role_words: str | None = None
    role_given: bool = False
    weight_given: bool = False
    blocks: tuple[float, ...] = ()
    ignored: tuple[str, ...] = ()
    mistake: str = ""
    say: str | None = None
    without_lora: bool = False


def parse_tags(prompt: str) -> tuple[LoraTag, ...]:
    """The LoRA tags of a prompt, in order (`<lyco:...>` is the hosts' alias of `<lora:...>`), and `<clora:...>` tags.

    Other tags and an unclosed `<lora:` are text. The same LoRA may have several tags, for two concepts from one file,
    or for one, where their weights add.
    Raises: CLoRAError for an empty name, a weight that is not a finite number, an unknown role, a misspelled argument;
    one message names the mistakes of all tags.
    """
    tags = read_tags(prompt)
    mistakes = [tag.mistake for tag in tags if tag.mistake]
    if mistakes:
        raise CLoRAError(" ".join(dict.fromkeys(mistakes)))
    return tags


def read_tags(prompt: str) -> tuple[LoraTag, ...]:
    """Every tag of the prompt; of one with a mistake what can be read."""
    return tuple(_read_tag(match) for match in _TAG.finditer(prompt))


def _read_tag(match: re.Match[str]) -> LoraTag:
    parse = _parse_words_tag if match.group(1) == "clora" else _parse_tag
    name, *items = split_items(match.group(2))
    span = Span(*match.span())
    try:
        return parse(name, items, span, match.group())
    except CLoRAError as error:
        mistake = str(error)
    weights = [item for item in items if "=" not in item]
    parts = [weights, *([item] for item in items if "=" in item)]
    readable = [item for part in parts if _is_readable(parse, name, part) for item in part]
    with suppress(CLoRAError):  # each by itself can be read, but not together
        return replace(parse(name, readable, span, match.group()), mistake=mistake)
    return LoraTag(name.strip(), span, mistake=mistake, without_lora=parse is _parse_words_tag)


def _is_readable(parse: Callable[[str, list[str], Span, str], LoraTag], name: str, items: list[str]) -> bool:
    try:
        parse(name, items, Span(0, 0), "")
    except CLoRAError:
        return False
    return True


def has_tags(prompt: str, count: int) -> bool:
    """Whether the prompt has `count` LoRA tags or more."""
    return len(list(islice(_TAG.finditer(prompt), count))) == count


def remove_tags(prompt: str, tags: Sequence[LoraTag]) -> str:
    """The prompt without the given tags, and without the double spaces and empty items they would leave."""
    return render(prompt, [Edit(tag.span) for tag in tags]).resolved.text


def parse_role(value: str, where: str) -> tuple[Role, str | None]:
    """The role and the words of `style@WORDS`; `where` says for the message where the value was written.

    Raises: CLoRAError for an unknown role.
    """
    kind, at, words = (part.strip() for part in value.partition("@"))
    if at and kind.lower() == "style" and words:
        return Role.SUBJECT_STYLE, words
    if not at and kind.lower() in ("concept", "style", "background", "off"):
        return Role(kind.lower()), None
    raise CLoRAError(
        f'Unknown role "{cut(value)}" in {where}: write concept, style, style@WORDS (the words of a subject), '
        "background or off."
    )


def _parse_tag(name: str, items: list[str], span: Span, written: str) -> LoraTag:
    name, where = name.strip(), f"the tag {cut(written)}"
    if not name:
        raise CLoRAError(f"There is no LoRA name in {where}: write it as <lora:name:1>.")
    positional = [item for item in items if "=" not in item]
    positional, others = _without_block_weights(positional)
    named = named_arguments([item for item in items if "=" in item], where)
    own = {key: value for key, value in named.items() if key in OWN_ARGUMENTS}
    ignored = [f"{key}={value}" for key, value in named.items() if key not in OWN_ARGUMENTS]
    blocks, ignored = _block_weights([*ignored, *positional[3:], *others])
    te = _weight(own.get("te", positional[0] if positional else "1"), where)
    unet = _weight(own.get("unet", positional[1]), where) if len(positional) > 1 else te
    if "unet" in own:
        unet = _weight(own["unet"], where)
    role, role_words = parse_role(own.get("role", "concept"), where)
    words, role_words = _with_occurrence(own, role, role_words, where)
    return LoraTag(
        name=name,
        span=span,
        te=te,
        unet=unet,
        dyn=_rank(own.get("dyn", positional[2] if len(positional) > 2 else None), where),
        words=words,
        trigger=own.get("trigger", "").strip() or None,
        trigger_given="trigger" in own,
        region=parse_region(own["place"], where) if "place" in own else None,
        role=role,
        role_words=role_words,
        role_given="role" in own,
        weight_given=bool(positional) or "te" in own or "unet" in own,
        blocks=blocks,
        ignored=tuple(ignored),
        say=own["say"].strip() if "say" in own else None,
    )


def _parse_words_tag(name: str, items: list[str], span: Span, written: str) -> LoraTag:
    """A subject without a LoRA: its name is its words, and nothing about a LoRA counts."""
    if not name.strip():
        raise CLoRAError(
            f"There are no words in the tag {cut(written)}: write the words of the subject, as in <clora:cat>."
        )
    kept = [item for item in items if item.partition("=")[0].strip() in WORDS_ARGUMENTS or "=" not in item]
    given = [item for item in kept if "=" in item]
    named = named_arguments([item for item in items if item not in kept], f"the tag {cut(written)}")
    if not any(item.partition("=")[0].strip() == "words" for item in given):
        given.append(f"words={name}")
    tag = _parse_tag(name, given, span, written)
    ignored = (*(item for item in kept if "=" not in item), *(f"{key}={value}" for key, value in named.items()))
    return replace(tag, role_given=True, ignored=ignored, without_lora=True)


def _without_block_weights(positional: list[str]) -> tuple[list[str], list[str]]:
    """Split off the weights per block that other extensions read ("1,0,0,1" or the name of a preset, "OUTALL")."""
    for i, item in enumerate(positional):
        if i and ("," in item or _PRESET.fullmatch(item.strip())):
            return positional[:i], positional[i:]
    return positional, []


def _block_weights(others: list[str]) -> tuple[tuple[float, ...], list[str]]:
    """The first list of weights by block, and the other arguments: further lists, and presets that only their
    extension knows."""
    for i, item in enumerate(others):
        found = read_block_weights(_LBW.sub("", item), MAX_WEIGHT)
        if found is not None:
            return found, others[:i] + others[i + 1 :]
    return (), others


def _weight(text: str, where: str) -> float:
    try:
        value = float(text) if text.isascii() else math.nan
    except ValueError:
        value = math.nan
    if not abs(value) <= MAX_WEIGHT:
        raise CLoRAError(
            f'"{cut(text)}" is not a valid weight in {where}: write a number up to {MAX_WEIGHT}, for example 0.8.'
        )
    return value


def _rank(text: str | None, where: str) -> int | None:
    if text is None:
        return None
    try:
        value = int(text) if text.isascii() and len(text) < 20 else 0
    except ValueError:
        value = 0
    if value < 1:
        raise CLoRAError(f'dyn= in {where} must be a whole number above 0, not "{cut(text)}".')
    return value


def _with_occurrence(
    own: dict[str, str], role: Role, role_words: str | None, where: str
) -> tuple[str | None, str | None]:
    """The words of the tag and of its role. `nth=2` becomes "#2", which some hosts remove from prompts as a comment."""
    words = own.get("words", "").strip() or None
    if words is not None and role not in (Role.CONCEPT, Role.OFF):
        raise CLoRAError(
            f"words= in {where} is only for concepts: for a style on one subject, write role=style@{cut(words)}."
        )
    nth = own.get("nth")
    if nth is None:
        return words, role_words
    if not (nth.strip().isdecimal() and len(nth) < 7 and int(nth) > 0):
        raise CLoRAError(f'nth= in {where} must be a whole number above 0, not "{cut(nth)}".')
    if words is None and role_words is None:
        raise CLoRAError(f"nth= in {where} needs words=: write for example words=cat:nth=2.")
    suffix = f"#{int(nth)}"
    return (words + suffix if words else None), (role_words + suffix if role_words else None)
