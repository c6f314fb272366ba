"""The user's own presets: names and settings in one JSON file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CLoRAError
from ..settings import BY_NAME, PRESETS, SETTINGS, Settings

LONGEST = 60
"""Characters of a preset's name."""
CHANGED = " (changed)"
"""Behind the name of the chosen preset once a setting was changed: no preset's name ends so."""


@dataclass(frozen=True)
class OwnPresets:
    """What was read: settings by preset name, and a sentence for everything that could not be."""

    settings: Mapping[str, Settings] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The built-in presets, then the user's in the order of their names."""
        return [*PRESETS, *sorted(self.settings, key=str.casefold)]

    def base(self, shown: str) -> str:
        """The preset that a choice shows, changed or not; the default where there is none of its name."""
        name = shown.removesuffix(CHANGED)
        return name if name in self.names else "default"

    def named(self, name: str) -> Settings:
        """The settings of a preset. Errors: CLoRAError."""
        if name in PRESETS:
            return Settings(name)
        if name not in self.settings:
            raise CLoRAError(f'There is no preset "{name}" any more: choose another.')
        return self.settings[name]


class PresetFile:
    """The file, read again each time: another tab, or the user, may have changed it.

    What this version cannot read stays in the file; a damaged file is moved aside before a new one is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def read(self) -> OwnPresets:
        """All presets; no file is no problem."""
        try:
            raw = self._raw()
        except CLoRAError as error:
            return OwnPresets(problems=(str(error),))
        found, problems = {}, []
        for name, values in raw.items():
            wrong = _wrong_name(name)
            if wrong or not isinstance(values, Mapping):
                problems.append(
                    f'The preset "{name}" in {self.path.name} is left out: {wrong or "it has no settings."}'
                )
                continue
            found[name], bad = _settings(values)
            if bad:
                left = ", ".join(bad)
                problems.append(f'The preset "{name}" goes without what this version cannot read: {left}.')
        return OwnPresets(found, tuple(problems))

    def save(self, name: str, settings: Settings) -> str:
        """Add a preset, or replace the one of that name; its name without spaces around. Errors: CLoRAError."""
        name = name.strip()
        wrong = _wrong_name(name)
        if wrong:
            raise CLoRAError(wrong)
        values = {s.name: getattr(settings, s.name) for s in SETTINGS}
        with self._lock:
            self._write({**self._raw_or_aside(), name: values})
        return name

    def delete(self, name: str) -> None:
        """Take a preset out. Errors: CLoRAError."""
        if name in PRESETS:
            raise CLoRAError(f'The preset "{name}" is built in and cannot be deleted: choose one of your own.')
        with self._lock:
            raw = self._raw()
            if name not in raw:
                raise CLoRAError(f'There is no preset "{name}" to delete: choose one of your own.')
            del raw[name]
            self._write(raw)

    def _raw(self) -> dict[str, Any]:
        """The file's content. Errors: CLoRAError where it cannot be read or holds no presets."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise CLoRAError(self._damaged(type(error).__name__)) from None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise CLoRAError(self._damaged("it is not JSON")) from None
        if not isinstance(found, dict):
            raise CLoRAError(self._damaged("it holds no presets"))
        return found

    def _damaged(self, why: str) -> str:
        return (
            f"Your presets in {self.path} cannot be read ({why}): correct the file; if you save a preset first, it is "
            f"kept as {self.path.name}.bad."
        )

    def _raw_or_aside(self) -> dict[str, Any]:
        try:
            return self._raw()
        except CLoRAError:
            aside, number = self.path.with_name(f"{self.path.name}.bad"), 1
            while aside.exists():
                number += 1
                aside = self.path.with_name(f"{self.path.name}.bad{number}")
            try:
                os.replace(self.path, aside)
            except OSError as error:
                raise CLoRAError(f"The file {self.path} cannot be moved aside ({error.strerror}).") from None
            return {}

    def _write(self, raw: Mapping[str, Any]) -> None:
        """All or nothing. Errors: CLoRAError."""
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            new.write_text(json.dumps(raw, indent=1, ensure_ascii=False), encoding="utf-8")
            os.replace(new, self.path)
        except OSError as error:
            raise CLoRAError(f"The presets cannot be written to {self.path} ({error.strerror}).") from None


def _wrong_name(name: str) -> str:
    """What is wrong with a preset's name, "" if nothing."""
    if not name.strip():
        return "A preset needs a name: write one into the box."
    if name in PRESETS:
        return f'The preset "{name}" is built in: take another name.'
    if name.endswith(CHANGED):
        return f'"{name}" is what a preset is called whose settings were changed: take another name.'
    if len(name) > LONGEST or not name.isprintable():
        return f'"{name[:LONGEST]}" is no name for a preset: take up to {LONGEST} printable characters.'
    return ""


def _settings(values: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The settings that can be read, and the others as text."""
    good, bad = {}, []
    for name, value in values.items():
        try:
            good[name] = BY_NAME[name].parse(value)
        except (KeyError, CLoRAError):
            bad.append(f"{name}={json.dumps(value)[:40]}")
    return Settings(**good), bad
