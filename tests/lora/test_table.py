"""The table of formats in docs/lora-files.md: each of its lines has a test that exists, and no format is missing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from clora.lora.formats import FORMATS

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "lora-files.md").read_text("utf-8")
LINES = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| file | test")]


def test_every_line_names_tests_that_exist() -> None:
    lines = [line for line in LINES if not re.match(r"\| (format|written by|file) \|", line)]
    assert len(lines) > 30
    for line in lines:
        tests = re.findall(r"`(test_\w+\.py)::(test_\w+)`", line.rstrip("|").rpartition("|")[2])
        assert tests, line
        for file, test in tests:
            functions = [
                node.name for node in ast.parse((HERE / file).read_text("utf-8")).body if hasattr(node, "name")
            ]
            assert test in functions, f"{file} has no {test}"


def test_every_format_is_in_the_table() -> None:
    """By a suffix that only this format uses."""
    for form in FORMATS:
        others = set().union(*(other.keys for other in FORMATS if other is not form))
        own = set(form.keys) - others
        assert not own or any(f"`{suffix}`" in PAGE for suffix in own), form
