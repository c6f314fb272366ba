"""The documents say what the code says: every setting and preset, quoted messages, files and figures."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from clora.settings import BY_NAME, PRESETS, SETTINGS, Settings
from research.figures.settings_strips import STRIPS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
SETTINGS_PAGE = (DOCS / "settings.md").read_text("utf-8")


def test_every_setting_has_a_heading_with_its_default() -> None:
    headings = re.findall(r"^### (.+) \(`(\w+)`, default (.+)\)$", SETTINGS_PAGE, re.MULTILINE)
    assert sorted(headings) == sorted((s.label, s.name, s.text(s.default)) for s in SETTINGS)


def test_every_preset_is_told_with_all_that_it_changes() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \|(.+)$", SETTINGS_PAGE, re.MULTILINE))
    assert set(rows) == set(PRESETS)
    for name in PRESETS:
        told = dict(re.findall(r"`(\w+)` ([\w.-]+)", rows[name].split("|")[-2]))
        assert told == {key: BY_NAME[key].text(value) for key, value in Settings(name).changed().items()}


def test_every_strip_is_shown_and_draws_values_of_its_setting() -> None:
    shown = re.findall(r"\(figures/settings/(\w+)\.jpg\)", SETTINGS_PAGE)
    assert sorted(shown) == sorted(strip.setting for strip in STRIPS)
    for strip in STRIPS:
        parsed = [BY_NAME[strip.setting].parse(value) for value in strip.values]
        assert BY_NAME[strip.setting].default in parsed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_files_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_document_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"docs/{page.name}" not in readme] == []


def test_settings_figures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (DOCS / "figures" / "settings").iterdir()}
    assert max(sizes.values()) < 60_000
    assert sum(sizes.values()) < 1_000_000


def texts_of_the_code() -> str:
    """All texts in the code, f-strings with "{}" for what is put in, each on a line."""
    found = []
    for path in (ROOT / "clora").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_quoted_messages_are_messages_of_the_code() -> None:
    quoted = re.findall(r"^\| `([^`]+)` \|", (DOCS / "troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    assert len(quoted) > 40
    texts = texts_of_the_code()
    missing = [quote for quote in quoted if not all(piece.strip() in texts for piece in quote.split("..."))]
    assert missing == []
