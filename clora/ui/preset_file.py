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

MAX_NAME_LENGTH = 60
CHANGED_SUFFIX = " (changed)"
"""Follows the name of the selected preset once a setting was changed. No preset's name ends in it."""


@dataclass(frozen=True)
class UserPresets:
    """The content of the file: settings by preset name, and a message for everything that could not be read."""

    settings: Mapping[str, Settings] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The built-in presets, then the user's in alphabetical order."""
        return [*PRESETS, *sorted(self.settings, key=str.casefold)]

    def base(self, shown: str) -> str:
        """The preset of a name as the panel shows it, changed or not; "default" if there is none of that name."""
        name = shown.removesuffix(CHANGED_SUFFIX)
        return name if name in self.names else "default"

    def named(self, name: str) -> Settings:
        """The settings of a preset. Raises: CLoRAError if there is no such preset."""
        if name in PRESETS:
            return Settings(name)
        if name not in self.settings:
            raise CLoRAError(f'The preset "{name}" no longer exists: choose another.')
        return self.settings[name]


class PresetFile:
    """The file. It is read again each time, because another tab or the user may have changed it.

    Values that this version cannot read stay in the file. A damaged file is renamed before a new one is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def read(self) -> UserPresets:
        """All presets; a missing file is not an error."""
        try:
            raw = self._raw()
        except CLoRAError as error:
            return UserPresets(problems=(str(error),))
        presets, problems = {}, []
        for name, values in raw.items():
            wrong = _name_error(name)
            if wrong or not isinstance(values, Mapping):
                problems.append(f'The preset "{name}" in {self.path.name} is ignored: {wrong or "it has no settings."}')
                continue
            presets[name], unreadable = _settings(values)
            if unreadable:
                problems.append(
                    f'These values of the preset "{name}" are ignored, because this version cannot read them: '
                    f"{', '.join(unreadable)}."
                )
        return UserPresets(presets, tuple(problems))

    def save(self, name: str, settings: Settings) -> str:
        """Add or replace a preset; returns its name without surrounding spaces.

        Raises: CLoRAError for an invalid name, or if the file cannot be written.
        """
        name = name.strip()
        wrong = _name_error(name)
        if wrong:
            raise CLoRAError(wrong)
        values = {s.name: getattr(settings, s.name) for s in SETTINGS}
        with self._lock:
            self._write({**self._raw_or_set_aside(), name: values})
        return name

    def delete(self, name: str) -> None:
        """Remove a preset. Raises: CLoRAError if it is built in or missing, or if the file cannot be used."""
        if name in PRESETS:
            raise CLoRAError(f'The preset "{name}" is built in and cannot be deleted: choose one of your own.')
        with self._lock:
            raw = self._raw()
            if name not in raw:
                raise CLoRAError(f'There is no preset "{name}" to delete: choose one of your own.')
            del raw[name]
            self._write(raw)

    def _raw(self) -> dict[str, Any]:
        """The file's content. Raises: CLoRAError if it cannot be read or contains no presets."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise CLoRAError(self._damaged(type(error).__name__)) from None
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            raise CLoRAError(self._damaged("it is not valid JSON")) from None
        if not isinstance(content, dict):
            raise CLoRAError(self._damaged("it contains no presets"))
        return content

    def _damaged(self, why: str) -> str:
        return (
            f"Your presets in {self.path} cannot be read ({why}): correct the file. If you save a preset before that, "
            f"the file is renamed to {self.path.name}.bad."
        )

    def _raw_or_set_aside(self) -> dict[str, Any]:
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
                raise CLoRAError(f"The file {self.path} cannot be renamed ({error.strerror}).") from None
            return {}

    def _write(self, raw: Mapping[str, Any]) -> None:
        """Write the whole file or nothing. Raises: CLoRAError if it cannot be written."""
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            new.write_text(json.dumps(raw, indent=1, ensure_ascii=False), encoding="utf-8")
            os.replace(new, self.path)
        except OSError as error:
            raise CLoRAError(f"The presets cannot be written to {self.path} ({error.strerror}).") from None


def _name_error(name: str) -> str:
    """What is wrong with a preset's name, "" if nothing."""
    if not name.strip():
        return "The preset has no name: enter one."
    if name in PRESETS:
        return f'The preset "{name}" is built in: choose another name.'
    if name.endswith(CHANGED_SUFFIX):
        return f'The name "{name}" ends in "{CHANGED_SUFFIX.strip()}", which marks changed presets: choose another.'
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
        return f'"{name[:MAX_NAME_LENGTH]}" is not a valid name: use at most {MAX_NAME_LENGTH} printable characters.'
    return ""


def _settings(values: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The settings that can be read, and the other values as text."""
    readable, unreadable = {}, []
    for name, value in values.items():
        try:
            readable[name] = BY_NAME[name].parse(value)
        except (KeyError, CLoRAError):
            unreadable.append(f"{name}={json.dumps(value)[:40]}")
    return Settings(**readable), unreadable
