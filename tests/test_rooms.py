"""The rooms of the code, and what each of them may import."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clora"
OUTER = ("hosts", "pictures", "ui", "webui", "cli", "page", "evaluate")
CORE = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in OUTER]
PICTURES = sorted((PACKAGE / "pictures").glob("*.py"))
PANEL = sorted((PACKAGE / "ui").glob("*.py"))
GRADIO_MODULES = {"panel", "controls", "preset_bar", "prompt_reader"}
"""The modules of clora/ui that build gradio components or answer their events; the others are data and HTML."""
NOT_HOSTS = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "hosts"]
WEBUI_PACKAGES = {"modules", "modules_forge", "backend", "networks"}
STANDARD = {*sys.stdlib_module_names, "torch", "numpy", "safetensors", "clora", "__future__"}


def imported(path: Path) -> set[str]:
    """Top-level packages a file imports, and its own package's rooms as "clora.ROOM"."""
    names = set()
    parts = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(parts[: len(parts) - node.level]) if node.level else []
            full = [".".join([*base, *([node.module] if node.module else [])])]
        else:
            continue
        names |= {".".join(name.split(".")[:2]) if name.startswith("clora.") else name.split(".")[0] for name in full}
    return names


def foreign(path: Path, *more: str) -> set[str]:
    """Packages that a file imports besides the core's and `more`."""
    return {name for name in imported(path) if name.split(".")[0] not in {*STANDARD, *more}}


def rooms(path: Path) -> set[str]:
    """The outer rooms that a file imports, besides its own."""
    own = path.relative_to(PACKAGE).parts[0]
    return {room for room in OUTER if room != own and f"clora.{room}" in imported(path)}


def test_the_core_needs_torch_numpy_and_safetensors_only() -> None:
    wrong = {str(path): foreign(path) | rooms(path) for path in CORE}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_pictures_need_pillow_besides_and_no_host() -> None:
    wrong = {path.name: foreign(path, "PIL") | rooms(path) for path in PICTURES}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_the_panel_imports_no_host_and_only_its_components_import_gradio() -> None:
    assert {path.stem for path in PANEL if "gradio" in imported(path)} == GRADIO_MODULES
    wrong = {path.name: foreign(path, "gradio", "PIL") | (rooms(path) - {"pictures"}) for path in PANEL}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_only_the_hosts_adapters_import_a_webui() -> None:
    wrong = {str(path): WEBUI_PACKAGES & {name.split(".")[0] for name in imported(path)} for path in NOT_HOSTS}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_the_page_and_the_command_line_import_each_other_in_one_direction_only() -> None:
    assert [path.name for path in (PACKAGE / "page").glob("*.py") if "cli" in rooms(path)] == []


def test_the_rooms_are_found() -> None:
    assert {"probe.py", "composer.py"} <= {path.name for path in CORE}
    assert {"overlay.py", "heat.py"} <= {path.name for path in PICTURES}
    assert {"report.py", "panel.py"} <= {path.name for path in PANEL}
    assert {"script.py", "main.py"} <= {path.name for path in NOT_HOSTS}
    api = imported(PACKAGE / "hosts" / "host_api.py")
    assert {"modules", "clora.errors"} <= api


FLOORS = (
    "errors",
    "settings",
    "lora",
    "prompt",
    "models",
    "conditioning",
    "attention",
    "regions",
    "guidance",
    "fusion",
    "engine",
    "embedded",
    "pictures",
    "hosts",
    "ui",
    "webui",
    "page",
    "evaluate",
    "cli",
)
"""The rooms from the lowest floor up: none imports a room above it."""


def test_no_room_imports_a_floor_above() -> None:
    assert sorted(FLOORS) == sorted(
        {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")} - {"__init__"}
    )
    upward = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imported(path):
            room = name.removeprefix("clora.")
            if own in FLOORS and room in FLOORS and FLOORS.index(room) > FLOORS.index(own):
                upward.append(f"{path.relative_to(ROOT)} imports {name}")
    assert upward == []
