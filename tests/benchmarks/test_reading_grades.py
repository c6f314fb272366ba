"""The grades of read prompts: right, acceptable, wrong, refused, with and without metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.prompts import grade_file, grade_of, summary

COMPOSE = {"outcome": "compose", "concepts": [{"lora": "a", "words_one_of": ["cat"]}], "never_concepts": ["s"]}
USUAL = {"outcome": "draw as usual", "never_concepts": ["s"]}
SENTENCE = {"outcome": "one clear sentence", "never_concepts": ["s"]}


@pytest.mark.parametrize(
    ("right", "composes", "rows", "said", "grade"),
    [
        (COMPOSE, True, [("a.safetensors", "Cat")], "", "right"),
        (COMPOSE, True, [("a", "dog")], "", "wrong"),
        (COMPOSE, True, [("a", "cat"), ("s", "x")], "note", "wrong"),
        (COMPOSE, False, [], "note", "acceptable"),
        (COMPOSE, False, [], "", "wrong"),
        (USUAL, False, [], "", "right"),
        (USUAL, True, [("a", "cat"), ("b", "dog")], "", "wrong"),
        (SENTENCE, False, [], "note", "right"),
        (SENTENCE, False, [], "", "wrong"),
        (SENTENCE, True, [("a", "cat"), ("s", "cat")], "note", "acceptable"),
        (SENTENCE, True, [("a", "cat"), ("s", "dog")], "note", "wrong"),
    ],
)
def test_grades(right: dict[str, Any], composes: bool, rows: list[tuple[str, str]], said: str, grade: str) -> None:
    assert grade_of(right, composes, rows, said) == grade


def test_a_file_is_graded_with_and_without_metadata(tmp_path: Path) -> None:
    entry = {
        "id": "1", "kind": "k", "prompt": "2girls, qwe, asd, <lora:f\\a:1>, <lora:b:1>",
        "loras": {"f/a": {"tag_frequency": {"qwe": 9}}, "b": {"tag_frequency": {"asd": 9}}},
        "right": {"outcome": "compose", "concepts": [{"lora": "f/a", "words_one_of": ["qwe"]},
                                                     {"lora": "b", "words_one_of": ["asd"]}]},
    }  # fmt: skip
    refused = {**entry, "id": "2", "prompt": "<lora:b:1:role=x>"}
    path = tmp_path / "prompts.jsonl"
    path.write_text(f"{json.dumps(entry)}\n\n{json.dumps(refused)}\n")
    graded = grade_file(path)
    grades = {(one.id, one.mode): one.grade for one in graded}
    assert grades["1", "none"] == "acceptable"
    assert grades["1", "kohya"] == grades["1", "notes"] == "right"
    assert {grades["2", mode] for mode in ("none", "kohya", "notes")} == {"refused"}
    assert summary(graded).splitlines()[-1].split() == ["all", "worst", "0", "1", "0", "1"]
