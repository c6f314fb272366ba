"""The rooms of the code: what each may import, and that links in the documents lead somewhere."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clora"
OUTER = ("hosts", "pictures", "ui", "webui", "cli", "page", "evaluate")
CORE = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in OUTER]
PICTURES = sorted((PACKAGE / "pictures").glob("*.py"))
BESIDE = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "hosts"]
STANDARD = {*sys.stdlib_module_names, "torch", "numpy", "safetensors", "clora", "__future__"}
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *PACKAGE.rglob("*.md")]


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


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_core_needs_torch_numpy_and_safetensors_only(path: Path) -> None:
    names = imported(path)
    assert {name for name in names if name.split(".")[0] not in STANDARD} == set()
    assert not {f"clora.{room}" for room in OUTER} & names


@pytest.mark.parametrize("path", PICTURES, ids=lambda p: p.name)
def test_pictures_need_pillow_besides_and_no_host(path: Path) -> None:
    names = imported(path)
    assert {name for name in names if name.split(".")[0] not in {*STANDARD, "PIL"}} == set()
    assert not {f"clora.{room}" for room in OUTER if room != "pictures"} & names


@pytest.mark.parametrize("path", BESIDE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_hosts_adapters_import_a_webui(path: Path) -> None:
    assert not {"modules", "modules_forge", "backend", "networks"} & {name.split(".")[0] for name in imported(path)}


def test_the_rooms_are_found() -> None:
    assert {"probe.py", "composer.py"} <= {path.name for path in CORE}
    assert {"overlay.py", "heat.py"} <= {path.name for path in PICTURES}
    assert {"script.py", "main.py"} <= {path.name for path in BESIDE}
    api = imported(PACKAGE / "hosts" / "host_api.py")
    assert {"modules", "clora.errors"} <= api


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
