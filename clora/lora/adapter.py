"""What a trainer wrote about an adapter beside its tensors: PEFT's settings, LyCORIS' arguments.

PEFT writes `adapter_config.json` beside `adapter_model.safetensors`; diffusers writes the same settings into the
file's metadata, each with its component's name ("unet.r"). Both are untrusted: patterns never run as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .file import CONFIG_NAME, PEFT_NAME, LoraFile

_PEFT_PREFIX = "base_model."
_MAX_CONFIG = 10_000_000  # bytes
_MAX_PATTERN = 300
_MAX_NUMBER = 1e9
_TOKEN = re.compile(r"\.\*|\.\+|\\d\+?|\[0-9\]\+?|\\\.|[A-Za-z0-9_.\-]")
"""What a pattern may consist of; any other pattern counts as plain text."""


class AdapterSettings:
    """The settings of one LoRA file, {} if there are none."""

    def __init__(self, lora: LoraFile) -> None:
        self._settings = _from_metadata(lora.metadata) or _from_file_beside(lora.path)
        self.is_peft = bool(self._settings) or any(key.startswith(_PEFT_PREFIX) for key in lora.tensors)
        self.scale_is_missing = self.is_peft and not self._settings
        self._network = _json(lora.metadata.get("ss_network_args", ""))

    @property
    def kind(self) -> str:
        """PEFT's name of the method ("LORA", "OFT", ...), "" if unknown."""
        found = next((value for key, value in self._settings.items() if key.split(".")[-1] == "peft_type"), "")
        return found if isinstance(found, str) else ""

    def get(self, component: str, key: str) -> Any:
        """A PEFT setting; the file of a single component writes it without the component's name."""
        return self._settings.get(f"{component}.{key}", self._settings.get(key))

    def number(self, component: str, key: str, name: str) -> float | None:
        """The setting `key` of a layer, which the pattern for this layer's name overrides ("r": rank_pattern)."""
        patterns = self.get(component, {"r": "rank_pattern"}.get(key, "alpha_pattern"))
        if isinstance(patterns, dict):
            for pattern, value in patterns.items():
                if _number(value) is not None and _matches(str(pattern), name):
                    return _number(value)
        return _number(self.get(component, key))

    def options(self, component: str, name: str) -> dict[str, Any]:
        """What formats need to know of one layer (see `formats.base.Reading`)."""
        keys = ("use_cayley_neumann", "num_cayley_neumann_terms", "coft", "eps", "apply_GS", "bias", "peft_type")
        options = {key: self.get(component, key) for key in (*keys, "init_lora_weights", "projection_prng_key")}
        options = {key: value for key, value in options.items() if value is not None}
        forward = self.get(component, "feedforward_modules")
        if isinstance(forward, list):
            options["feedforward"] = any(isinstance(end, str) and name.endswith(end) for end in forward)
        elif isinstance(forward, str):
            options["feedforward"] = _matches(forward, name)
        if isinstance(sig := self._network.get("sig_type"), str):
            options["sig_type"] = sig
        return {"is_peft": self.is_peft, **options}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MAX_NUMBER:
        return None
    return float(value)


def _matches(pattern: str, name: str) -> bool:
    """Whether PEFT's pattern matches the end of a layer's name, from a part's start on.

    Only parts of a regular expression that cannot make the search slow are understood.
    """
    if len(pattern) > _MAX_PATTERN:
        return False
    choices = pattern.removeprefix("^").removesuffix("$").strip("()").split("|")
    return any(choice and re.search(rf"(^|\.){_safe(choice)}\Z", name) for choice in choices)


def _safe(pattern: str) -> str:
    tokens = _TOKEN.findall(pattern)
    wild = [token for token in tokens if token.startswith((".*", ".+"))]
    if "".join(tokens) != pattern or len(wild) > 3:
        return re.escape(pattern)
    return "".join(token if len(token) > 1 else re.escape(token) for token in tokens)


def _from_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """diffusers' `lora_adapter_metadata`: JSON with `unet.r`, `unet.lora_alpha`, `unet.alpha_pattern`, ..."""
    return _json(metadata.get("lora_adapter_metadata", ""))


def _from_file_beside(path: Path) -> dict[str, Any]:
    """PEFT's file, if it belongs to this one: it has PEFT's name, or is the only LoRA file of its folder."""
    config = path.with_name(CONFIG_NAME)
    with suppress(OSError):
        if not config.is_file() or config.stat().st_size > _MAX_CONFIG:
            return {}
        if path.stem != PEFT_NAME and len(list(path.parent.glob("*.safetensors"))) != 1:
            return {}
        return _json(config.read_text(encoding="utf-8", errors="replace"))
    return {}


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
