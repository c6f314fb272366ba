from __future__ import annotations

import pytest

from clora.prompt import analyze
from clora.prompt.alone import prompt_alone

CAT_AND_DOG = "a photo of a <lora:cats:1:0.5:words=cat:trigger=sks> cat and a <lora:dogs:0.8> sks dog, grass"


@pytest.mark.parametrize(
    ("prompt", "number", "expected"),
    [
        (CAT_AND_DOG, 0, "a photo of a sks cat , grass <lora:cats:1:0.5>"),
        (CAT_AND_DOG, 1, "a photo of a sks dog, grass <lora:dogs:0.8:0.8>"),
        (
            "<lora:cats:1> (cat:1.2) and <lora:dogs:1> dog, <lora:wc:0.6:role=style> <lora:hat:0.4:role=style@cat>",
            0,
            "(cat:1.2) <lora:cats:1:1> <lora:hat:0.4:0.4> <lora:wc:0.6:0.6>",
        ),
        (
            "<lora:cats:1> cat and <lora:dogs:1> dog, <lora:wc:0.6:role=style> <lora:hat:0.4:role=style@cat>",
            1,
            "dog <lora:dogs:1:1> <lora:wc:0.6:0.6>",
        ),
        (
            "<lora:cats:1:dyn=8> cat and <lora:dogs:1> dog, <lora:other:1:role=off>",
            0,
            "cat <lora:cats:1:1:dyn=8> <lora:other:1:1>",
        ),
    ],
)
def test_a_concept_alone(prompt: str, number: int, expected: str) -> None:
    assert prompt_alone(analyze(prompt), number) == expected


def test_what_joins_the_others_goes_with_them() -> None:
    composition = analyze("<lora:a:1> cat and a <lora:b:1> dog and a <lora:c:1> horse on grass")
    texts = [prompt_alone(composition, number).split(" <")[0] for number in range(3)]
    assert texts == ["cat on grass", "a dog on grass", "a horse on grass"]


def test_its_own_words_stay_if_another_concept_has_them_too() -> None:
    composition = analyze("<lora:a:1:words=ball#1> ball and <lora:b:1:words=ball#2> ball")
    assert prompt_alone(composition, 0).startswith("ball <lora:a")
    assert prompt_alone(composition, 1).startswith("ball <lora:b")
