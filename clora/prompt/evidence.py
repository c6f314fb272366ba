"""What a LoRA's file and the user's notes tell about it, as evidence for its role and its subject's words."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CLoRAError
from ..lora.bundled import bundled_names
from ..lora.file import read_description
from ..lora.user_metadata import read_notes

_FOLDER = re.compile(r"\d+_(.+ .+)")
_MOST_TAGS = 200


@dataclass(frozen=True)
class Evidence:
    """What is known about a LoRA besides its name.

    `texts` are activation texts, trigger phrases and the words of textual inversions in the file, `tags` the training
    tags, the most frequent first, with their counts, `names` its other names (output name, title), `kinds` what its
    author tags it as ("style"). `description` and `preferred_weight` (0 if none) are the user's.
    """

    texts: tuple[str, ...] = ()
    tags: tuple[tuple[str, int], ...] = ()
    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    description: str = ""
    preferred_weight: float = 0.0


EvidenceSource = Callable[[str], Evidence]
"""LoRA name -> what is known about it."""


def evidence_of_files(path_of: Callable[[str], Path]) -> EvidenceSource:
    """The evidence in LoRA files and the notes beside them; `path_of` gives the file of a LoRA.

    A LoRA that `path_of` does not know, or whose file is damaged, has no evidence: what uses the file says so.
    """

    def evidence(name: str) -> Evidence:
        try:
            path = path_of(name)
            notes, (metadata, keys) = read_notes(path), read_description(path)
            found = evidence_of(metadata, (notes.activation, *bundled_names(keys)))
            return replace(found, description=notes.description, preferred_weight=notes.weight)
        except (CLoRAError, KeyError, OSError):
            return Evidence()

    return evidence


def evidence_of(metadata: Mapping[str, str], texts: Sequence[str] = ()) -> Evidence:
    """The evidence in a safetensors file's metadata, which is untrusted text, and in the user's activation `texts`."""
    phrase = metadata.get("modelspec.trigger_phrase", "").strip()
    names = (metadata.get("ss_output_name", ""), metadata.get("modelspec.title", ""))
    kinds = metadata.get("modelspec.tags", "").casefold().split(",")
    return Evidence(
        texts=tuple(dict.fromkeys(text.strip() for text in (*texts, phrase) if text.strip())),
        tags=_tags(metadata.get("ss_tag_frequency", "")),
        names=tuple(dict.fromkeys(name.strip()[:200] for name in names if name.strip())),
        kinds=tuple(kind.strip() for kind in kinds if kind.strip()),
    )


def _tags(text: str) -> tuple[tuple[str, int], ...]:
    """The tags of all folders of `ss_tag_frequency`; a folder "10_sks cat" is a tag itself."""
    try:
        folders: Any = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return ()
    counts: Counter[str] = Counter()
    for folder, tags in folders.items() if isinstance(folders, dict) else ():
        own = tags if isinstance(tags, dict) else {}
        found = {str(tag).strip(): count for tag, count in own.items() if isinstance(count, int) and count > 0}
        counts.update({tag: count for tag, count in found.items() if tag})
        match = _FOLDER.fullmatch(str(folder).strip())
        if match:
            counts[match.group(1)] += max(found.values(), default=1)
    return tuple(counts.most_common(_MOST_TAGS))
