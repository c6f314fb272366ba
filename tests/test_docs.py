"""The documents agree with the code: settings, presets, quoted messages, links and figures."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from clora.settings import BY_NAME, PRESETS, SETTINGS, Settings
from research.figures.settings_strips import STRIPS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "clora").rglob("*.md")]
SETTINGS_PAGE = (DOCS / "settings.md").read_text("utf-8")


def test_every_setting_has_a_heading_with_its_default() -> None:
    headings = re.findall(r"^### (.+) \(`(\w+)`, default (.+)\)$", SETTINGS_PAGE, re.MULTILINE)
    assert sorted(headings) == sorted((s.label, s.name, s.text(s.default) or "none") for s in SETTINGS)


def test_every_preset_is_listed_with_all_that_it_changes() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \|(.+)$", SETTINGS_PAGE, re.MULTILINE))
    assert set(rows) == set(PRESETS)
    for name in PRESETS:
        listed = dict(re.findall(r"`(\w+)` ([\w.-]+(?:, [\d.]+)*)", rows[name].split("|")[-2]))
        assert listed == {key: BY_NAME[key].text(value) for key, value in Settings(name).changed().items()}


def test_every_strip_is_shown_and_draws_values_of_its_setting() -> None:
    shown = re.findall(r"\(figures/settings/(\w+)\.jpg\)", SETTINGS_PAGE)
    assert sorted(shown) == sorted(strip.setting for strip in STRIPS)
    for strip in STRIPS:
        parsed = [BY_NAME[strip.setting].parse(value) for value in strip.values]
        assert BY_NAME[strip.setting].default in parsed


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_to_files_and_headings() -> None:
    assert len(DOCUMENTS) > 10
    broken = []
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)", document.read_text("utf-8")):
            name, _, anchor = target.partition("#")
            file = document.parent / name if name else document
            found = file.exists() and (not anchor or file.suffix != ".md" or anchor in anchors(file))
            if not target.startswith("http") and not found:
                broken.append(f"{document.name} links to {target}")
    assert broken == []


def test_every_document_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"docs/{page.name}" not in readme] == []


def test_settings_figures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (DOCS / "figures" / "settings").iterdir()}
    assert max(sizes.values()) < 60_000
    assert sum(sizes.values()) < 1_000_000


def texts_of_the_code() -> str:
    """All texts in the code, one per line, with "{}" for the expressions in f-strings."""
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
