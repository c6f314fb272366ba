"""A value for every parameter of the table, validated; and presets of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from .errors import CLoRAError
from .masks import MaskOptions
from .setting import Setting
from .settings_table import BY_NAME, METHODS, PRESETS, SETTINGS

__all__ = ["BY_NAME", "METHODS", "PRESETS", "SETTINGS", "Setting", "Settings"]


class Settings:
    """One value for every entry of `SETTINGS`, as attributes; immutable, validated on the way in.

    `Settings(preset="paper", step_size=10)` starts from a preset. Errors: CLoRAError naming an unknown setting, with
    the nearest name, or a value out of its range.
    """

    def __init__(self, preset: str = "default", **values: Any) -> None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise CLoRAError(f"There is no preset {preset!r}: give one of {', '.join(PRESETS)}.")
        for name in values:
            if name not in BY_NAME:
                near = difflib.get_close_matches(name, BY_NAME, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(BY_NAME)}."
                raise CLoRAError(f"There is no setting {name!r}: {hint}")
        merged = {**PRESETS[preset], **values}
        table = {s.name: s.parse(merged[s.name]) if s.name in merged else s.default for s in SETTINGS}
        object.__setattr__(self, "_values", table)
        object.__setattr__(self, "preset", preset)

    preset: str
    _values: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_values")[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("Settings are immutable: make new ones with replace()")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in self.changed().items())})"

    def replace(self, **values: Any) -> Settings:
        """The same settings with some values changed."""
        return Settings(**{**self._values, **values})

    def changed(self) -> Mapping[str, Any]:
        """The settings that differ from the default, for infotext and messages."""
        return {s.name: self._values[s.name] for s in SETTINGS if self._values[s.name] != s.default}

    @property
    def updates(self) -> bool:
        """Whether the latent is updated at all."""
        return bool(self.method == "clora" and self.update_until > 0.0 and self.step_size > 0.0)

    def mask_options(self) -> MaskOptions:
        """The settings that `clora.masks` needs."""
        return MaskOptions(
            threshold=self.mask_threshold, relative_to=self.mask_scale, smooth=self.mask_smooth,
            overlap=self.mask_overlap, dilate=self.mask_dilate, erode=self.mask_erode,
            opening=self.mask_open, closing=self.mask_close, grid=self.mask_grid,
        )  # fmt: skip
