"""CLoRA reads the benchmark's prompts as they are meant, with LoRA files that hold metadata only."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.characters.boxes import classes
from benchmarks.characters.report import SINGLE
from clora.lora.library import LoraLibrary
from clora.prompt import analyze
from clora.prompt.evidence import evidence_of_files
from research.characters.kohya import metadata
from research.characters.lessons import LESSONS
from research.characters.prompts import STYLES, Prompt, load_prompts

_TRAINING = Namespace(rank=4, pictures=400, steps=700, lr=4e-3, seed=0, convolutions=False)


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    for lesson in LESSONS.values():
        about = metadata(lesson.name, lesson.trigger, list(lesson.prompts), _TRAINING)
        save_file({"stub.weight": torch.zeros(1)}, folder / f"{lesson.name}.safetensors", about)
    return folder


@pytest.mark.parametrize("prompt", load_prompts(), ids=lambda prompt: prompt.id)
def test_a_prompt_is_read_as_it_is_meant(prompt: Prompt, loras: Path) -> None:
    found = analyze(prompt.prompt, evidence=evidence_of_files(LoraLibrary(loras).path))
    assert not found.warnings
    assert found.composes == (prompt.group != SINGLE)
    named = [use.name for one in found.concepts for use in one.loras if use.name not in STYLES]
    assert named == list(prompt.characters)
    if found.composes:
        left = list(prompt.expect)
        for concept in found.concepts:  # in order of mention, each of the class that its box is looked for by
            word = concept.words.split()[-1]
            while word not in {left[0].name, *classes(left[0].name)}:
                left.pop(0)
            left.pop(0)
    assert [use.name for use in found.styles] == ([prompt.style] if prompt.style else [])
    assert [use.name for use in found.background] == ([prompt.background] if prompt.background else [])
