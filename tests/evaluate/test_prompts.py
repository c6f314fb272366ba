"""The list of prompts, the mapping that fills it, and users' own lists."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from clora.errors import CLoRAError
from clora.evaluate.evaluation import in_turn
from clora.evaluate.prompts import TEMPLATES, Slot, fill, load_mapping, load_prompts, plain_text
from clora.prompt import analyze

ENTRIES = json.loads(TEMPLATES.read_text("utf-8"))
SLOTS = sorted({name for entry in ENTRIES for name in entry["slots"]})
MAPPING = {name: Slot(f"my-{name}", 0.8, f"tok{name}") for name in SLOTS}
LEAST = {"scene": 60, "interaction": 40, "same class": 30, "style": 30, "three to five": 30, "up to eight": 10}


def test_every_kind_of_prompt_is_there() -> None:
    counts = Counter(entry["kind"] for entry in ENTRIES)
    assert set(counts) == set(LEAST)
    assert all(counts[kind] >= least for kind, least in LEAST.items())
    assert len(ENTRIES) >= 200


def test_no_prompt_stands_twice() -> None:
    texts = [re.sub(r"\W+", " ", re.sub(r"\{style\d\}", "", entry["text"])).casefold().strip() for entry in ENTRIES]
    assert len(set(texts)) == len(texts)
    without_subjects = [" ".join(re.sub(r"\{\w+\}", "", entry["text"]).split()) for entry in ENTRIES]
    assert [text for text, count in Counter(without_subjects).items() if count > 1] == []
    assert len({entry["id"] for entry in ENTRIES}) == len(ENTRIES)


def test_every_filled_prompt_composes_its_subjects() -> None:
    for entry in ENTRIES:
        check_filled(entry)


def check_filled(entry: dict[str, object]) -> None:
    """One prompt of the list composes the subjects of its slots."""
    text, slots, kind = str(entry["text"]), dict(entry["slots"]), entry["kind"]  # type: ignore[call-overload]
    slot_names = re.findall(r"\{(\w+)\}", text)
    assert len(set(slot_names)) == len(slot_names), text
    subjects = [name for name in slot_names if not name.startswith("style")]
    composition = analyze(fill(text, slots, MAPPING))
    assert [concept.loras[0].name for concept in composition.concepts] == [f"my-{name}" for name in subjects], text
    assert [concept.words for concept in composition.concepts] == [slots[name] for name in subjects], text
    assert [use.name for use in composition.styles] == [f"my-{n}" for n in slot_names if n not in subjects]
    spans = [composition.variants[0].subjects[i] for i in range(len(subjects))]
    assert len(set(spans)) == len(spans), f"two concepts have the same words: {text}"
    assert bool(composition.styles) == (kind == "style"), text
    if kind == "same class":
        assert len(set(slots.values())) < len(slots), text
    number = len(subjects)
    expected = {"three to five": range(3, 6), "up to eight": range(6, 9), "scene": [2], "interaction": [2]}
    assert number in expected.get(str(kind), range(2, 4)), text


def test_words_that_stand_twice_are_counted() -> None:
    filled = fill("a dog watches a {dog1} and a {dog2}", {"dog1": "dog", "dog2": "dog"}, MAPPING)
    assert filled == (
        "a dog watches a <lora:my-dog1:0.8:words=dog:nth=2:trigger=tokdog1> dog and a "
        "<lora:my-dog2:0.8:words=dog:nth=3:trigger=tokdog2> dog"
    )
    assert [concept.occurrence for concept in analyze(filled).concepts] == [2, 3]


def test_text_for_clip_has_no_tags_no_triggers_and_no_emphasis() -> None:
    composition = analyze("a (red:1.3) <lora:a:1:trigger=sks> cat and a <lora:b:1> dog [in rain:at night:0.5]")
    assert plain_text(composition) == "a red cat and a dog at night"


def test_prompts_without_a_lora_are_skipped_and_counted(tmp_path: Path) -> None:
    prompts, skipped = load_prompts(TEMPLATES, {"cat1": Slot("kitty"), "dog1": Slot("rex", 0.5, "sks")})
    assert 0 < len(prompts) == len(ENTRIES) - skipped
    assert prompts[0].text == (
        "a <lora:kitty:1:words=cat> cat and a <lora:rex:0.5:words=dog:trigger=sks> dog asleep on a sunny windowsill"
    )
    with pytest.raises(CLoRAError, match="nothing to evaluate"):
        load_prompts(TEMPLATES, {})


def test_a_users_own_list(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("# mine\n\na <lora:a:1> cat and a <lora:b:1> dog\n  a <lora:b:1> dog, a <lora:c:1> bird\n")
    prompts, skipped = load_prompts(path, {})
    assert [prompt.id for prompt in prompts] == ["line-3", "line-4"]
    assert (skipped, prompts[1].where) == (0, "line 4 of own.txt")


def test_mappings(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"cat1": "kitty", "dog1": {"lora": "rex", "weight": 0.5, "trigger": "sks"}}')
    expected = {"cat1": Slot("kitty"), "dog1": Slot("rex", 0.5, "sks")}
    assert load_mapping(tmp_path / "m.json") == expected
    assert load_mapping(None) == {}
    toml = tmp_path / "m.toml"
    toml.write_text('cat1 = "kitty"\n[dog1]\nlora = "rex"\nweight = 0.5\ntrigger = "sks"\n')
    if sys.version_info >= (3, 11):
        assert load_mapping(toml) == expected
    else:
        with pytest.raises(CLoRAError, match="JSON"):
            load_mapping(toml)


BAD_MAPPINGS = ["[]", "{", '{"cat1": 3}', '{"cat1": {"lora": "a", "wait": 1}}', '{"cat1": {"weight": 1}}',
                '{"cat1": {"lora": "a", "weight": "x"}}', '{"cat1": "a:b"}', '{"cat1": ""}']  # fmt: skip


@pytest.mark.parametrize("content", BAD_MAPPINGS)
def test_bad_mappings(tmp_path: Path, content: str) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(CLoRAError, match=r"m\.json"):
        load_mapping(tmp_path / "m.json")


BAD_LISTS = ["{}", "[1]", '[{"id": "a", "kind": "k", "text": "a {cat1}"}]',
             '[{"id": "a", "kind": "k", "text": "a {cat1}", "slots": {}}]',
             '[{"id": "a", "kind": "k", "text": "b", "slots": {}}, {"id": "a", "kind": "k", "text": "c", "slots": {}}]',
             "[]"]  # fmt: skip


@pytest.mark.parametrize("content", BAD_LISTS)
def test_bad_lists(tmp_path: Path, content: str) -> None:
    (tmp_path / "l.json").write_text(content)
    with pytest.raises(CLoRAError, match=r"l\.json"):
        load_prompts(tmp_path / "l.json", MAPPING)


def test_a_limit_takes_every_kind_in_turn() -> None:
    prompts, _ = load_prompts(TEMPLATES, MAPPING)
    chosen = in_turn(prompts, 8)
    assert Counter(prompt.kind for prompt in chosen) == {kind: 2 if i < 2 else 1 for i, kind in enumerate(LEAST)} | {
        "three to five": 1
    }
    assert in_turn(prompts, 0) == prompts
