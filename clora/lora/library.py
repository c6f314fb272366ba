"""The LoRA files that a run can use: found by name, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import CLoRAError, cut
from .file import LoraFile, find_lora, no_such_lora, read_lora
from .resolve import AppliedLora, resolve_lora
from .target import LoraTargets
from .use import LoraUse

MOST_MISSING = 20
"""LoRAs that do not exist and are looked for."""

Source = str | Path | Sequence[str | Path] | Mapping[str, str | Path]


class LoraLibrary:
    """LoRA files from folders, or from a mapping of names to files. Each file is read at most once."""

    def __init__(self, source: Source) -> None:
        self._named: Mapping[str, str | Path] = {}
        self._folders: list[Path] = []
        if isinstance(source, Mapping):
            self._named = source
        elif isinstance(source, str | Path):
            self._folders = [Path(source)]
        else:
            self._folders = [Path(folder) for folder in source]
        self._files: dict[str, LoraFile] = {}

    def file(self, name: str) -> LoraFile:
        """The LoRA called `name`.

        Raises: CLoRAError if the name is unknown (similar names are suggested) or the file cannot be used.
        """
        if name not in self._files:
            self._files[name] = read_lora(self.path(name))
        return self._files[name]

    def path(self, name: str) -> Path:
        """The file of a LoRA.

        Raises: CLoRAError if the name is unknown (similar names are suggested).
        """
        if self._folders:
            return find_lora(name, self._folders)
        try:
            return Path(self._named[name])
        except KeyError:
            known = {key: self._named.get(key, "") for key in self._named}
            raise no_such_lora(name, known) from None

    def notes_on_missing(self, uses: Iterable[LoraUse]) -> list[str]:
        """A note on each LoRA without a file, which is drawn without it."""
        notes = []
        for use in uses:
            try:
                self.path(use.name)
            except CLoRAError as error:
                notes.append(drawn_without(use, error))
        return notes

    def applied(self, use: LoraUse, model: LoraTargets) -> AppliedLora:
        """The LoRA of a tag, resolved on the layers of a model with the tag's strengths."""
        return resolve_lora(self.file(use.name), model, te=use.te, unet=use.unet, dyn=use.dyn, blocks=use.blocks)


def drawn_without(use: LoraUse, error: CLoRAError) -> str:
    """The note on a LoRA that is left to the host and cannot be used."""
    return f'Drawn without the LoRA "{cut(use.name)}". {error}'


class PathCache:
    """LoRA name -> its file by `find`, looked up once each. Raises: CLoRAError for a LoRA that does not exist.

    To look for such a one lists all files, so after `MOST_MISSING` of them the rest counts as missing.
    """

    def __init__(self, find: Callable[[str], Path]) -> None:
        self._find = find
        self._found: dict[str, Path | CLoRAError] = {}
        self._left = MOST_MISSING

    def __call__(self, name: str) -> Path:
        if name not in self._found:
            self._found[name] = self._look(name)
        found = self._found[name]
        if isinstance(found, CLoRAError):
            raise found
        return found

    def _look(self, name: str) -> Path | CLoRAError:
        if not self._left:
            return CLoRAError(f'There is no LoRA "{name}".')
        try:
            return self._find(name)
        except CLoRAError as error:
            self._left -= 1
            return error
