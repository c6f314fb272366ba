"""The choices of one browser tab, and how its prompt is read. Other tabs are not affected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..embedded import EMBEDDED_LORAS
from ..errors import CLoRAError, cut, printable
from ..lora.library import LoraLibrary, PathCache
from ..lora.user_metadata import notes_of_files
from ..prompt import Composition, analyze
from ..prompt.evidence import EvidenceSource, evidence_of_files
from ..ui.corrected_prompt import corrected_prompt
from ..ui.corrections import read_corrections, readable_corrections
from ..ui.report import Report, Sources, report
from ..ui.report_data import Layout

MAX_FOLDERS = 100


@dataclass(frozen=True)
class Session:
    """The model (None: the embedded one) and the folders of LoRAs of one tab."""

    model: Path | None = None
    loras: tuple[Path, ...] = (EMBEDDED_LORAS,)

    @property
    def files(self) -> LoraLibrary:
        """The LoRAs in the folders, read anew each time: files may change while the page is open."""
        return LoraLibrary(self.loras)

    @property
    def evidence(self) -> EvidenceSource:
        """What files and notes tell about a LoRA; tensors are not read."""
        return evidence_of_files(self.files.path)


def read_prompt(
    prompt: str, negative: str, corrections: str, session: Session, layout: Callable[[Path | None], Layout | None]
) -> Report:
    """What a prompt composes, for the panel; `layout` gives the token positions if the model is loaded."""
    prompt, negative = printable(prompt or ""), printable(negative or "")
    if not prompt.strip():
        return Report(False, problem="The prompt is empty: write one, or click two of the LoRAs.")
    given, problem = readable_corrections(corrections)
    try:
        corrected_prompt(prompt, given)  # the page draws it
    except CLoRAError as error:
        problem = problem or str(error)
    files = PathCache(session.files.path)
    sources = Sources(
        evidence=evidence_of_files(files), check=files, loads_all=True, layout=layout(session.model),
        notes_of=notes_of_files(files),
    )  # fmt: skip
    return report(prompt, negative, corrections=given, sources=sources, problem=problem)


def composition_of(prompt: str, corrections: str, session: Session) -> Composition | None:
    """What a prompt composes, None if it cannot be read; the panel's message says why."""
    try:
        return analyze(printable(prompt or ""), overrides=read_corrections(corrections), evidence=session.evidence)
    except CLoRAError:
        return None


def path_of(text: str) -> Path:
    """A path as a user pastes it, possibly in quotes or starting with ~.

    Raises: CLoRAError for a text that no path can be.
    """
    bare = printable(text).strip().strip("\"'")
    try:
        path = Path(bare).expanduser()
        path.exists()  # raises for a name that no file can have
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CLoRAError(f'The path "{cut(bare)}" cannot be used ({why}): check it.') from None
    return path


def lora_folders(text: str) -> tuple[Path, ...]:
    """The folders in a text, one per line; the embedded LoRAs for an empty text.

    Raises: CLoRAError if a folder does not exist.
    """
    folders = tuple(path_of(line) for line in text.splitlines() if line.strip())
    if len(folders) > MAX_FOLDERS:
        raise CLoRAError(f"There are {len(folders)} LoRA folders: use at most {MAX_FOLDERS}.")
    for folder in folders:
        if not folder.is_dir():
            raise CLoRAError(f"The LoRA folder {folder} does not exist: check the path.")
    return folders or (EMBEDDED_LORAS,)
