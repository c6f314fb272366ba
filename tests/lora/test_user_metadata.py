"""The user's metadata beside a LoRA file, as WebUIs write it, and other files of that name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clora.lora.user_metadata import LoraNotes, read_notes


def test_metadata_as_a_webui_writes_it(tmp_path: Path) -> None:
    written = {
        "description": "", "sd version": "SD1", "activation text": " sks  person, ", "preferred weight": 0.7,
        "negative text": "", "notes": "",
    }  # fmt: skip
    (tmp_path / "genie.v1.json").write_text(json.dumps(written), encoding="utf-8")
    assert read_notes(tmp_path / "genie.v1.safetensors") == LoraNotes("sks person", 0.7)
    assert read_notes(tmp_path / "singer.safetensors") == LoraNotes()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100000, b'{"activation text": 3, "preferred weight": "much"}',
     b'{"preferred weight": NaN}', b'{"preferred weight": [1]}', b'{"preferred weight": 1e999}'],
)  # fmt: skip
def test_other_files_are_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "genie.json").write_bytes(content)
    assert read_notes(tmp_path / "genie.safetensors") == LoraNotes()
