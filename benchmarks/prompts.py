"""Grade how prompts are read: python -m benchmarks.prompts FILE [--json].

FILE has one JSON object on each line:

- `prompt`, `id`, `kind`;
- `loras`: by name `{"is": ..., "tag_frequency": {tag: count}}`, of which stub files are made; or `activation_texts`: by
  name the texts of the user's notes;
- `right`: `outcome` ("compose", "draw as usual ..." or "one clear sentence ..."), `concepts` (`lora` and
  `words_one_of`) and `never_concepts` (LoRAs that must not be composed).

Every prompt is read without metadata ("none"), with the training tags in the files ("kohya") and with them as
activation texts ("notes"). A reading is

- right: the outcome is as asked, with the asked concepts and words;
- acceptable: nothing wrong is composed, and one message says what to write. Where "one clear sentence" is asked for, a
  LoRA of `never_concepts` may be on the concept of another one, whose tag stands beside its own;
- wrong: something else is composed, or nothing is said;
- refused: an error, although the host draws the prompt.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file

from clora.errors import CLoRAError
from clora.prompt import Composition, analyze
from clora.prompt.evidence import evidence_of_files

MODES = ("none", "kohya", "notes")
GRADES = ("right", "acceptable", "wrong", "refused")


@dataclass(frozen=True)
class Graded:
    """One reading of one prompt: its grade, what was composed as (LoRA, words), and the messages."""

    id: str
    kind: str
    mode: str
    grade: str
    composes: bool
    rows: tuple[tuple[str, str], ...]
    said: str


class StubFiles:
    """LoRA files without layers that have the metadata of one entry, in a folder."""

    def __init__(self, folder: Path, entry: Mapping[str, Any], mode: str) -> None:
        self._paths: dict[str, Path] = {}
        for name, about in entry.get("loras", {}).items():
            tags = about.get("tag_frequency") or {}
            metadata = {"ss_tag_frequency": json.dumps({"10_data": tags})} if mode == "kohya" and tags else {}
            self._add(folder, name, metadata, ", ".join(tags) if mode == "notes" else "")
        for name, texts in entry.get("activation_texts", {}).items():
            self._add(folder, name, {}, ", ".join(texts))

    def _add(self, folder: Path, name: str, metadata: dict[str, str], activation: str) -> None:
        path = folder / f"{len(self._paths)}.safetensors"
        save_file({"stub.weight": torch.zeros(1)}, path, metadata=metadata)
        if activation:
            path.with_suffix(".json").write_text(json.dumps({"activation text": activation}), encoding="utf-8")
        self._paths[plain_name(name)] = path

    def path(self, name: str) -> Path:
        """The file of a LoRA. Raises: KeyError if the entry has none."""
        return self._paths[plain_name(name)]


def plain_name(name: str) -> str:
    """A LoRA's name without the ending of its file, with "/" between folders."""
    return name.removesuffix(".safetensors").replace("\\", "/")


def read(entry: Mapping[str, Any], mode: str) -> Graded:
    """Read one entry in one mode and grade it."""
    with TemporaryDirectory() as folder:
        files = StubFiles(Path(folder), entry, mode)
        try:
            composition = analyze(entry["prompt"], evidence=evidence_of_files(files.path), drop_other_tags=True)
        except CLoRAError as error:
            return Graded(entry["id"], entry["kind"], mode, "refused", False, (), str(error))
    said = " ".join((composition.note,) if composition.note else composition.warnings)
    rows = _composed(composition)
    grade = grade_of(entry["right"], composition.composes, rows, said)
    return Graded(entry["id"], entry["kind"], mode, grade, composition.composes, rows, said)


def _composed(composition: Composition) -> tuple[tuple[str, str], ...]:
    if not composition.composes:
        return ()
    return tuple((use.name, concept.words) for concept in composition.concepts for use in concept.loras)


def grade_of(right: Mapping[str, Any], composes: bool, rows: Iterable[tuple[str, str]], said: str) -> str:
    """The grade of a reading that is not an error."""
    found = {plain_name(name): _plain(words) for name, words in rows}
    wanted = {plain_name(one["lora"]): {_plain(words) for words in one["words_one_of"]} for one in
              right.get("concepts", ())}  # fmt: skip
    never = {plain_name(name) for name in right.get("never_concepts", ())}
    if found.keys() & never:
        alone = any(
            found[name] not in {found[other] for other in found.keys() - never} for name in found.keys() & never
        )
        return "wrong" if alone or not said or not right["outcome"].startswith("one clear") else "acceptable"
    if right["outcome"] == "compose":
        if not composes:
            return "acceptable" if said else "wrong"
        fits = found.keys() == wanted.keys() and all(found[name] in wanted[name] for name in found)
        return "right" if fits else "wrong"
    if right["outcome"].startswith("draw as usual"):
        return "wrong" if composes else "right"
    return "right" if said else "wrong"


def _plain(words: str) -> str:
    return " ".join(words.casefold().split())


def grade_file(path: Path) -> list[Graded]:
    """All readings of a file's prompts. An entry without LoRA files is read once, with its activation texts."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    entries = [json.loads(line) for line in lines]
    return [read(entry, mode) for entry in entries for mode in (MODES if "loras" in entry else ("notes",))]


def summary(graded: Iterable[Graded]) -> str:
    """The grades per kind and mode, and of each prompt's worst mode, as a table."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    worst: dict[str, Graded] = {}
    for one in graded:
        for key in ((one.kind, one.mode), ("all", one.mode)):
            counts[key][one.grade] += 1
        if one.id not in worst or GRADES.index(one.grade) > GRADES.index(worst[one.id].grade):
            worst[one.id] = one
    for one in worst.values():
        for key in ((one.kind, "worst"), ("all", "worst")):
            counts[key][one.grade] += 1
    head = f"{'kind':30}{'metadata':10}" + "".join(f"{grade:>12}" for grade in GRADES)
    kinds = sorted(counts, key=lambda key: (key[0] == "all", key))
    return "\n".join([head, *(_line(key, counts[key]) for key in kinds)])


def _line(key: tuple[str, str], counts: Mapping[str, int]) -> str:
    return f"{key[0]:30}{key[1]:10}" + "".join(f"{counts[grade]:12}" for grade in GRADES)


def main() -> None:
    """Print the table and every reading that is not right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="print all readings as JSON")
    arguments = parser.parse_args()
    graded = grade_file(arguments.file)
    if arguments.json:
        print(json.dumps([asdict(one) for one in graded], ensure_ascii=False, indent=1))
        return
    print(summary(graded))
    for one in graded:
        if one.grade != "right":
            print(f"\n{one.id} ({one.kind}, {one.mode}): {one.grade}\n  {list(one.rows)}\n  {one.said}")


if __name__ == "__main__":
    main()
