"""The benchmark's prompts: enough of each group, two splits, and every LoRA they name is there."""

from __future__ import annotations

import re
from collections import Counter

from research.characters.lessons import LESSONS
from research.characters.prompts import GROUPS, load_prompts, make
from research.characters.words import CHARACTERS, WORDS

PROMPTS = load_prompts()


def test_the_file_is_what_the_script_makes() -> None:
    assert make() == PROMPTS


def test_there_are_enough_prompts_in_two_splits() -> None:
    assert len(PROMPTS) >= 120
    assert len({prompt.id for prompt in PROMPTS}) == len({prompt.prompt for prompt in PROMPTS}) == len(PROMPTS)
    for group, (count, _) in GROUPS.items():
        splits = Counter(prompt.split for prompt in PROMPTS if prompt.group == group)
        assert splits["tuning"] == -(-count // 3)
        assert splits["report"] == count - splits["tuning"]


def test_prompts_name_loras_and_words_that_exist() -> None:
    for prompt in PROMPTS:
        loras = re.findall(r"<lora:(\w+):", prompt.prompt)
        assert loras
        assert set(loras) <= set(LESSONS)
        assert {one.name for one in prompt.expect} <= {*CHARACTERS, *WORDS}
        assert set(prompt.characters) <= set(loras)
        styles = {one.style for one in prompt.expect if one.style} | {prompt.style} - {None}
        assert styles | ({prompt.background} - {None}) == set(loras) - set(CHARACTERS)
        if prompt.relation:
            assert max(prompt.relation[1:]) < len(prompt.expect)


def test_same_class_prompts_have_two_of_one_class() -> None:
    for prompt in PROMPTS:
        if prompt.group == "same class":
            assert len({one.kind for one in prompt.expect}) == 1
            assert len({one.name for one in prompt.expect}) == 2
