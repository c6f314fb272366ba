"""The user's own presets: names and settings in one JSON file."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CLoRAError, cut, printable, shown
from ..settings import BY_NAME, FORMER, PRESETS, SETTINGS, START, Settings, preset_name
from .file_lock import locked

MAX_NAME_LENGTH = 60
_MAX_SIZE = 50_000_000
"""Bytes; a larger file is no file of presets."""
CHANGED_SUFFIX = " (changed)"
"""Follows the name of the selected preset once a setting was changed. No preset's name ends in it."""
OWN_SUFFIX = " (yours)"
"""Follows the name of a preset in the file that has the name of a built-in one, of today or before."""


@dataclass(frozen=True)
class UserPresets:
    """The content of the file: settings by shown name, and a message for everything that could not be read."""

    settings: Mapping[str, Settings] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The built-in presets, then the user's in alphabetical order."""
        return [*PRESETS, *sorted(self.settings, key=str.casefold)]

    def base(self, shown: str) -> str:
        """The preset of a name as the panel shows it, changed or not; `START` if there is none of that name."""
        name = preset_name(shown.removesuffix(CHANGED_SUFFIX))
        return name if name in self.names else START

    def named(self, name: str) -> Settings:
        """The settings of a preset. Raises: CLoRAError if there is no such preset."""
        if preset_name(name) in PRESETS:
            return Settings(name)
        if name not in self.settings:
            raise CLoRAError(f'The preset "{name}" no longer exists: choose another.')
        return self.settings[name]


class PresetFile:
    """The file. It is read again each time, because another tab or the user may have changed it.

    Values that this version cannot read stay in the file. A damaged file is renamed before a new one is written.
    Threads and programs that save at once wait for each other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> UserPresets:
        """All presets; a missing file is not an error."""
        try:
            raw = self._raw()
        except CLoRAError as error:
            return UserPresets(problems=(str(error),))
        presets, problems = {}, []
        for name, key in _shown_names(raw).items():
            values, wrong = raw[key], _name_error(name)
            if wrong or not isinstance(values, Mapping):
                why = wrong or "it has no settings."
                problems.append(printable(f'The preset "{cut(name)}" in {self.path.name} is ignored: {why}'))
                continue
            presets[name], unreadable = _settings(values)
            if unreadable:
                problems.append(
                    printable(
                        f'These values of the preset "{name}" are ignored, because this version cannot read them: '
                        f"{cut(', '.join(unreadable)) if len(unreadable) > 50 else ', '.join(unreadable)}."
                    )
                )
        return UserPresets(presets, tuple(" ".join(problem.splitlines()) for problem in problems))

    def save(self, name: str, settings: Settings) -> str:
        """Add or replace a preset; returns its name without surrounding spaces.

        Raises: CLoRAError for an invalid name, or if the file cannot be written.
        """
        name = name.strip()
        wrong = _name_error(name)
        if wrong:
            raise CLoRAError(wrong)
        values = {s.name: getattr(settings, s.name) for s in SETTINGS}
        with self._changing():
            raw = self._raw_or_set_aside()
            self._write({**raw, _shown_names(raw).get(name, name): values})
        return name

    def delete(self, name: str) -> None:
        """Remove a preset. Raises: CLoRAError if it is built in or missing, or if the file cannot be used."""
        if preset_name(name) in PRESETS:
            raise CLoRAError(f'The preset "{name}" is built in and cannot be deleted: choose one of your own.')
        with self._changing():
            raw = self._raw()
            key = _shown_names(raw).get(name)
            if key is None:
                raise CLoRAError(f'There is no preset "{name}" to delete: choose one of your own.')
            del raw[key]
            self._write(raw)

    @property
    def _real(self) -> Path:
        """The file itself if the path is a link, which stays one."""
        return Path(os.path.realpath(self.path))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Read, change and write as one act."""
        try:
            with locked(self._real):
                yield
        except (OSError, ValueError, NotImplementedError) as error:
            raise self._unwritten(error) from None

    def _raw(self) -> dict[str, Any]:
        """The file's content. Raises: CLoRAError if it cannot be read or contains no presets."""
        try:
            found = self.path.stat()
            if not stat.S_ISREG(found.st_mode):  # a pipe would never end
                raise CLoRAError(self._damaged("it is not a file"))
            if found.st_size > _MAX_SIZE:
                raise CLoRAError(self._damaged("it is too large"))
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
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
            real = self._real
            if not real.is_file():  # a folder, a pipe or a device is not ours to rename
                raise CLoRAError(f"The presets cannot be written to {self.path} (it is not a file).") from None
            aside, number = real.with_name(f"{real.name}.bad"), 1
            while os.path.lexists(aside):
                number += 1
                aside = real.with_name(f"{real.name}.bad{number}")
            try:
                os.replace(real, aside)
            except OSError as error:
                raise CLoRAError(f"The file {self.path} cannot be renamed ({error.strerror}).") from None
            return {}

    def _write(self, raw: Mapping[str, Any]) -> None:
        """Write the whole file or nothing; its mode and owner stay. Raises: OSError if it cannot be written."""
        real = self._real
        new = real.with_name(f"{real.name}.{secrets.token_hex(6)}.new")
        content = _encoded(raw)
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(file, "wb") as output:
                output.write(content)
                output.flush()
                os.fsync(output.fileno())
            with suppress(FileNotFoundError):
                _copy_rights(real, new)
            os.replace(new, real)
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise

    def _unwritten(self, error: Exception) -> CLoRAError:
        why = getattr(error, "strerror", None) or type(error).__name__
        return CLoRAError(f"The presets cannot be written to {self.path} ({why}).")


def _encoded(raw: Mapping[str, Any]) -> bytes:
    """The file's content in UTF-8; lone surrogates, which UTF-8 cannot have, as JSON escapes."""
    try:
        return json.dumps(raw, indent=1, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(raw, indent=1).encode()


def _copy_rights(old: Path, new: Path) -> None:
    state = old.stat()
    if hasattr(os, "chown"):
        with suppress(PermissionError):
            os.chown(new, state.st_uid, state.st_gid)
    os.chmod(new, stat.S_IMODE(state.st_mode))


def _shown_names(raw: Mapping[str, Any]) -> dict[str, str]:
    """The file's names by those that the panel shows: each of them once, and none that is built in."""
    found = {}
    for key in raw:
        name = key
        if key in PRESETS or key in FORMER:
            name += OWN_SUFFIX
            while name in raw:
                name += OWN_SUFFIX
        found[name] = key
    return found


def _name_error(name: str) -> str:
    """What is wrong with a preset's name, "" if nothing."""
    if not name.strip():
        return "The preset has no name: enter one."
    if preset_name(name) in PRESETS:
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
            unreadable.append(f"{name[:40]}={_json(value)[:40]}")
    return Settings(**readable), unreadable


def _json(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return shown(value)
