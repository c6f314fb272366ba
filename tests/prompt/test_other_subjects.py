"""Subjects that no LoRA draws: which words they are, and that they have places but no variants."""

from __future__ import annotations

import pytest

from clora.prompt import analyze
from clora.prompt.composition import Variant

TWO = "a <lora:a:1:words=cat> cat and a <lora:b:1:words=dog> dog"


def others(variant: Variant) -> list[str]:
    return [" ".join(variant.text[slice(*span)] for span in spans) for spans in variant.others]


@pytest.mark.parametrize(("text", "wanted"), [
    (TWO, []),
    (f"{TWO}, a king", ["king"]),
    (f"a photo of a tall old wizard, {TWO} in a city", ["tall old wizard"]),
    (f"A fox next to {TWO}, (a red panda:1.2), an owl", ["fox", "red panda", "owl"]),
    (f"{TWO} and another fox", ["fox"]),
    (f"{TWO} beside a girl with red hair", ["girl"]),
    (f"a dragon riding {TWO}", ["dragon"]),
    (f"{TWO} holding a mouse", []),  # held by one of them: no place apart
    (f"{TWO} in a bear costume, a sword, a house", []),  # a part, and things
    (f"{TWO}, king, 1girl, best quality", []),  # tags name what is in a picture, not where one begins
    (f"{TWO}, " + ", ".join(["a king"] * 12), ["king"] * 8),
])  # fmt: skip
def test_persons_and_animals_beside_the_concepts_are_found(text: str, wanted: list[str]) -> None:
    found = analyze(text)
    assert [others(variant) for variant in found.variants] == [wanted] * 3
    assert len(found.concepts) == 2


def test_a_subject_with_a_tag_of_its_own_is_a_concept_only() -> None:
    found = analyze(f"{TWO} and a <clora:king> king")
    assert len(found.concepts) == 3
    assert [others(variant) for variant in found.variants] == [[]] * 4
