"""The user's presets in their file: what is read, what is kept of what is not understood, and what is never lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clora.errors import CLoRAError
from clora.settings import PRESETS, Settings
from clora.ui.preset_file import MAX_NAME_LENGTH, PresetFile

MINE = Settings("paper", step_size=7.5, refine_at=(0.1, 0.25), method="clora", show_loss=True)


@pytest.fixture
def file(tmp_path: Path) -> PresetFile:
    return PresetFile(tmp_path / "presets.json")


def test_what_is_saved_is_read_again(file: PresetFile) -> None:
    assert file.read().names == list(PRESETS)
    assert file.save("  my cats, 猫 ", MINE) == "my cats, 猫"
    file.save("Another", Settings())
    own = PresetFile(file.path).read()
    assert own.names == [*PRESETS, "Another", "my cats, 猫"]
    assert own.named("my cats, 猫") == MINE
    assert own.named("fast") == Settings("fast")
    assert own.problems == ()
    file.save("my cats, 猫", Settings())
    assert file.read().named("my cats, 猫") == Settings()
    file.delete("my cats, 猫")
    assert file.read().names == [*PRESETS, "Another"]
    assert [path.name for path in file.path.parent.iterdir()] == ["presets.json"]


@pytest.mark.parametrize("name", ["", " \n", *PRESETS, "x" * (MAX_NAME_LENGTH + 1), "two\nlines", "fast (changed)"])
def test_a_wrong_name_is_refused_and_nothing_is_written(file: PresetFile, name: str) -> None:
    with pytest.raises(CLoRAError):
        file.save(name, MINE)
    assert not file.path.exists()


@pytest.mark.parametrize("name", [*PRESETS, "nobody's"])
def test_only_user_presets_are_deleted(file: PresetFile, name: str) -> None:
    file.save("mine", MINE)
    with pytest.raises(CLoRAError, match=name):
        file.delete(name)
    with pytest.raises(CLoRAError, match="nobody's"):
        file.read().named("nobody's")
    assert file.read().named("mine") == MINE


def test_unknown_values_are_reported_and_stay_in_the_file(file: PresetFile) -> None:
    written = {
        "new": {"step_size": 9, "shiny": [1, 2], "mask_threshold": 7, "method": "magic"},
        "paper": {}, "list": [1], "fine": {"refine_updates": 3},
    }  # fmt: skip
    file.path.write_text(json.dumps(written), encoding="utf-8")
    own = file.read()
    assert own.named("new") == Settings(step_size=9)
    assert own.named("fine") == Settings(refine_updates=3)
    assert own.named("paper") == Settings("paper")
    assert own.problems == (
        'These values of the preset "new" are ignored, because this version cannot read them: shiny=[1, 2], '
        'mask_threshold=7, method="magic".',
        'The preset "paper" in presets.json is ignored: The preset "paper" is built in: choose another name.',
        'The preset "list" in presets.json is ignored: it has no settings.',
    )
    file.save("mine", MINE)
    file.delete("fine")
    kept = json.loads(file.path.read_text("utf-8"))
    assert kept.pop("mine")
    assert kept == {name: values for name, values in written.items() if name != "fine"}


@pytest.mark.parametrize("content", [b'{"mine": {', b"[1]", b"3", b"\xff\xfe", b"", b"[" * 100000])
def test_a_damaged_file_is_reported_and_kept(file: PresetFile, content: bytes) -> None:
    for number in ("", "2"):
        file.path.write_bytes(content)
        own = file.read()
        assert own.names == list(PRESETS)
        (problem,) = own.problems
        assert str(file.path) in problem
        with pytest.raises(CLoRAError, match="cannot be read"):
            file.delete("mine")
        assert file.path.read_bytes() == content
        file.save("mine", MINE)
        assert file.read().named("mine") == MINE
        assert file.path.with_name(f"presets.json.bad{number}").read_bytes() == content


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CLoRAError, match="cannot be written"):
        PresetFile(tmp_path / "missing" / "presets.json").save("mine", MINE)
