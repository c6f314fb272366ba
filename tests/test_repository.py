"""What surrounds the code agrees with it: workflow, issue forms, changelog, hooks, index entry, package."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import clora

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOW = GITHUB / "workflows" / "ci.yml"
FORMS = [GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug_report", "feature_request")]
HOOKS = ROOT / ".pre-commit-config.yaml"


def parsed(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(found, dict), f"{path.name} is not a mapping"
    return found


def pinned(package: str) -> str:
    return re.findall(rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)[0]


def test_all_yaml_files_parse() -> None:
    paths = [HOOKS, *GITHUB.rglob("*.yml"), *GITHUB.rglob("*.yaml")]
    assert {WORKFLOW, *FORMS} <= set(paths)
    for path in paths:
        parsed(path)


def test_the_workflow_runs_make_targets_that_exist() -> None:
    workflow = parsed(WORKFLOW)
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    asked = set(re.findall(r"\bmake ([\w-]+)", "\n".join(commands)))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert asked == {"lint", "test", "demo"}
    assert asked <= targets


def test_the_workflow_only_reads_and_tests_every_python_of_the_package() -> None:
    workflow = parsed(WORKFLOW)
    assert workflow["permissions"] == {"contents": "read"}
    package = (ROOT / "pyproject.toml").read_text("utf-8")
    classified = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', package)
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == classified
    assert f'requires-python = ">={classified[0]}"' in package


def test_issue_forms_have_what_github_asks_for() -> None:
    for path in FORMS:
        form = parsed(path)
        assert form["name"]
        assert form["description"]
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert len({field["id"] for field in fields}) == len(fields)
        assert all(field["attributes"]["label"] for field in fields)
    asked = {field.get("id") for field in parsed(FORMS[0])["body"]}
    assert {"host", "versions", "device", "prompt", "infotext", "console"} <= asked


def test_the_changelogs_newest_version_is_the_packages() -> None:
    versions = re.findall(
        r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert versions[0] == clora.__version__
    assert versions == sorted(versions, key=lambda text: tuple(map(int, text.split("."))), reverse=True)


def test_the_index_entry_has_what_the_extension_index_asks_for() -> None:
    entry = json.loads((ROOT / "docs" / "index-entry.json").read_text("utf-8"))
    assert set(entry) == {"name", "url", "description", "tags"}
    assert entry["name"]
    assert entry["description"].endswith(".")
    assert entry["url"].startswith("https://")
    assert entry["url"].endswith(".git")
    assert entry["tags"]
    assert all(isinstance(tag, str) for tag in entry["tags"])
    # While the address is a placeholder, the steps of a release say so.
    if ".invalid/" in entry["url"]:
        assert "is a placeholder" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_pre_commit_has_the_pinned_ruff() -> None:
    [ruff] = [repo for repo in parsed(HOOKS)["repos"] if repo["repo"].endswith("/ruff-pre-commit")]
    assert ruff["rev"] == f"v{pinned('ruff')}"


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "clora" / "py.typed").is_file()
    assert 'clora = ["py.typed"]' in (ROOT / "pyproject.toml").read_text("utf-8")
