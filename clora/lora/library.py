"""The LoRA files a run may use: found by name, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from .file import LoraFile, find_lora, no_such_lora, read_lora
from .resolve import AppliedLora, apply_lora
from .use import LoraUse

Source = str | Path | Sequence[str | Path] | Mapping[str, str | Path]


class LoraLibrary:
    """LoRA files from folders, or from a mapping of names to files. Files are read at most once."""

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
        """The LoRA called `name`. Errors: CLoRAError for an unknown name (with the nearest ones) or a bad file."""
        if name not in self._files:
            self._files[name] = read_lora(self.path(name))
        return self._files[name]

    def path(self, name: str) -> Path:
        """The file of a LoRA. Errors: CLoRAError for an unknown name, with the nearest ones."""
        if self._folders:
            return find_lora(name, self._folders)
        try:
            return Path(self._named[name])
        except KeyError:
            known = {key: self._named.get(key, "") for key in self._named}
            raise no_such_lora(name, known) from None

    def trigger_phrases(self, name: str) -> tuple[str, ...]:
        """What the file's own metadata offers as the words of its subject."""
        phrase = self.file(name).metadata.get("modelspec.trigger_phrase", "").strip()
        return (phrase,) if phrase else ()

    def applied(self, use: LoraUse, components: Mapping[str, nn.Module]) -> AppliedLora:
        """The LoRA of a tag on a model's components, with the tag's strengths."""
        return apply_lora(self.file(use.name), components, te=use.te, unet=use.unet, dyn=use.dyn)
