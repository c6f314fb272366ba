"""The verdicts behind the tables of docs/quality.md: python -m benchmarks.characters.verdicts pack, or unpack.

`unpack` puts them into the folder of a benchmark, which then makes its tables without drawing; `pack` keeps what that
folder knows. A picture's key holds the weights that drew it, so that after a change of a LoRA only its own are drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.characters.run import Lines
from benchmarks.characters.setup import told
from clora.errors import CLoRAError

KEPT = Path(__file__).with_name("verdicts.zip")
_DIGITS = 5


def pack(folder: Path, kept: Path = KEPT) -> int:
    """Write the lines of all files of a folder, the last of each key, into one file; returns how many.

    Raises: CLoRAError if the folder has none.
    """
    count = 0
    if not any(folder.glob("*.jsonl")):
        raise CLoRAError(f"The folder {folder} has no verdicts: draw something first, or name another with --out.")
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(folder.glob("*.jsonl")):
            entries = Lines(path).entries()
            text = "".join(json.dumps(_rounded(entry), separators=(",", ":")) + "\n" for entry in entries)
            archive.writestr(zipfile.ZipInfo(path.name, (2026, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
            count += len(entries)
    return count


def unpack(folder: Path, kept: Path = KEPT) -> int:
    """Add the lines whose keys a folder does not know; returns how many."""
    count = 0
    with zipfile.ZipFile(kept) as archive:
        for name in archive.namelist():
            lines = Lines(folder / Path(name).name)
            for text in archive.read(name).decode().splitlines():
                entry = json.loads(text)
                if lines.get(entry["key"]) is None:
                    lines.put(**entry)
                    count += 1
    return count


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def main(arguments: list[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.characters.verdicts", description=__doc__)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("--out", type=Path, default=Path("outputs/characters-benchmark"), metavar="DIR")
    args = parser.parse_args(arguments)
    return told(lambda: print(f"{(pack if args.what == 'pack' else unpack)(args.out)} lines"))


if __name__ == "__main__":
    sys.exit(main())
