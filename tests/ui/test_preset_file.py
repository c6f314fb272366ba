"""The user's presets in their file: what is read, what is kept of what is not understood, and what is never lost."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from clora.errors import CLoRAError
from clora.settings import FORMER, PRESETS, Settings
from clora.ui import file_lock
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
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["presets.json", "presets.json.lock"]


@pytest.mark.parametrize(
    "name", ["", " \n", *PRESETS, *FORMER, "x" * (MAX_NAME_LENGTH + 1), "two\nlines", "fast (changed)"]
)
def test_a_wrong_name_is_refused_and_nothing_is_written(file: PresetFile, name: str) -> None:
    with pytest.raises(CLoRAError):
        file.save(name, MINE)
    assert not file.path.exists()


@pytest.mark.parametrize("name", [*PRESETS, *FORMER, "nobody's"])
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
        "list": [1], "fine": {"refine_updates": 3},
    }  # fmt: skip
    file.path.write_text(json.dumps(written), encoding="utf-8")
    own = file.read()
    assert own.named("new") == Settings(step_size=9)
    assert own.named("fine") == Settings(refine_updates=3)
    assert own.problems == (
        'These values of the preset "new" are ignored, because this version cannot read them: shiny=[1, 2], '
        'mask_threshold=7, method="magic".',
        'The preset "list" in presets.json is ignored: it has no settings.',
    )
    file.save("mine", MINE)
    file.delete("fine")
    kept = json.loads(file.path.read_text("utf-8"))
    assert kept.pop("mine")
    assert kept == {name: values for name, values in written.items() if name != "fine"}


@pytest.mark.parametrize("name", [*PRESETS, *FORMER])
def test_an_own_preset_with_the_name_of_a_built_in_one_is_kept(file: PresetFile, name: str) -> None:
    """It was saved by a version that did not have the built-in one."""
    shown = f"{name} (yours)"
    file.path.write_text(json.dumps({name: {"step_size": 3}, "mine": {}}), encoding="utf-8")
    own = file.read()
    assert own.names == [*PRESETS, *sorted([shown, "mine"])]
    assert own.named(shown) == Settings(step_size=3)
    assert own.named(name) == Settings(name)
    assert own.base(f"{shown} (changed)") == shown
    assert own.problems == ()
    file.save(shown, MINE)
    assert file.read().named(shown) == MINE
    assert sorted(json.loads(file.path.read_text("utf-8"))) == sorted([name, "mine"])
    with pytest.raises(CLoRAError, match="is built in"):
        file.delete(name)
    file.delete(shown)
    assert file.read().names == [*PRESETS, "mine"]


def test_own_presets_whose_shown_names_would_be_the_same_are_both_kept(file: PresetFile) -> None:
    written = {"exact": {"step_size": 1}, "exact (yours)": {"step_size": 2}}
    file.path.write_text(json.dumps(written), encoding="utf-8")
    own = file.read()
    assert own.named("exact (yours)") == Settings(step_size=2)
    assert own.named("exact (yours) (yours)") == Settings(step_size=1)
    file.delete("exact (yours)")
    assert file.read().named("exact (yours)") == Settings(step_size=1)


@pytest.mark.parametrize("former", FORMER)
def test_former_names_mean_the_presets_of_today(file: PresetFile, former: str) -> None:
    own = file.read()
    assert own.named(former) == Settings(FORMER[former])
    assert own.base(former) == own.base(f"{former} (changed)") == FORMER[former]


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


# ------------------------------------------------------------------------------------------------ many at once

SAVING = """
import sys
from pathlib import Path
if sys.argv[4] == "system":
    sys.modules["filelock"] = None
from clora.settings import Settings
from clora.ui.preset_file import PresetFile
for number in range(int(sys.argv[3])):
    PresetFile(Path(sys.argv[1])).save(f"{sys.argv[2]} {number}", Settings())
"""


def save_many(file: Path, who: str, count: int) -> None:
    for number in range(count):
        PresetFile(file).save(f"{who} {number}", Settings())


@pytest.mark.parametrize("lock", ["library", "system"])
def test_nothing_is_lost_when_tabs_and_programs_save_at_once(
    tmp_path: Path, lock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tab has a `PresetFile` of its own, as txt2img and img2img have, and one comes by a link."""
    if lock == "system":
        monkeypatch.setitem(sys.modules, "filelock", None)
    else:
        pytest.importorskip("filelock")
    file, link, count = tmp_path / "presets.json", tmp_path / "link.json", 40
    link.symlink_to(file)
    commands = [[sys.executable, "-c", SAVING, str(file), f"program {n}", str(count), lock] for n in range(2)]
    programs = [subprocess.Popen(command) for command in commands]
    paths = {"tab": file, "other tab": link}
    tabs = [threading.Thread(target=save_many, args=(path, name, count)) for name, path in paths.items()]
    for one in tabs:
        one.start()
    for one in tabs:
        one.join()
    assert [program.wait(timeout=120) for program in programs] == [0, 0]
    saved = set(PresetFile(file).read().settings)
    assert saved == {f"{who} {n}" for who in ("tab", "other tab", "program 0", "program 1") for n in range(count)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "presets.json", "presets.json.lock"]


@pytest.mark.parametrize("lock", ["library", "system"])
def test_a_program_that_keeps_the_lock_is_named_as_the_cause(
    file: PresetFile, lock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lock == "system":
        monkeypatch.setitem(sys.modules, "filelock", None)
    monkeypatch.setattr(file_lock, "_WAIT", 0.1)
    real = Path(os.path.realpath(file.path))
    with file_lock.locked(real):
        file_lock._threads.pop(real)  # as another program, which does not share this program's locks
        with pytest.raises(CLoRAError, match="in use by another program"):
            file.save("mine", MINE)
    file.save("mine", MINE)


def test_link_and_mode_stay(file: PresetFile, tmp_path: Path) -> None:
    file.save("first", MINE)
    file.path.chmod(0o600)
    link = PresetFile(tmp_path / "elsewhere" / "link.json")
    link.path.parent.mkdir()
    link.path.symlink_to(os.path.relpath(file.path, link.path.parent))
    link.save("second", MINE)
    link.delete("first")
    assert link.path.is_symlink()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert set(file.read().settings) == {"second"}
    file.path.write_text("{", encoding="utf-8")
    link.save("third", MINE)
    assert link.path.is_symlink()
    assert set(file.read().settings) == {"third"}


def test_a_new_file_has_the_usual_mode(file: PresetFile) -> None:
    umask = os.umask(0o022)
    try:
        file.save("mine", MINE)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o644


def test_lone_surrogates_stay_in_the_file_and_out_of_messages(file: PresetFile) -> None:
    file.path.write_text(r'{"\ud800": {}, "fine 🐈": {"step_size": "\udfff", "\udc00": 1}}', encoding="utf-8")
    before = json.loads(file.path.read_text("utf-8"))
    own = file.read()
    assert list(own.settings) == ["fine \U0001f408"]
    assert len(own.problems) == 2
    "".join(own.problems).encode()
    file.save("mine", MINE)
    after = json.loads(file.path.read_text("utf-8"))
    assert after.pop("mine")
    assert after == before
    with pytest.raises(CLoRAError) as error:
        file.save("\ud800", MINE)
    str(error.value).encode()
    assert not list(file.path.parent.glob("*.new"))


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_not_a_file_is_left_alone(file: PresetFile, kind: str) -> None:
    if kind == "folder":
        file.path.mkdir()
    else:
        os.mkfifo(file.path)
    assert "is not a file" in file.read().problems[0]
    with pytest.raises(CLoRAError, match="is not a file"):
        file.save("mine", MINE)
    assert not file.path.is_file()


def test_a_failed_write_leaves_nothing_behind(file: PresetFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.save("mine", MINE)
    before = file.path.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CLoRAError, match="No space left on device"):
        file.save("other", MINE)
    assert file.path.read_bytes() == before
    assert not list(file.path.parent.glob("*.new"))


def test_values_nested_too_deeply_are_ignored(file: PresetFile) -> None:
    deep = "[" * 900 + "]" * 900
    file.path.write_text(f'{{"a": {{"refine_at": {deep}, "method": {deep}}}, "{"n" * 9999}": 1}}', encoding="utf-8")
    own = file.read()
    assert own.named("a") == Settings()
    assert max(map(len, own.problems)) < 400
