"""What a prompt says about where two subjects are."""

from __future__ import annotations

import pytest

from clora.prompt import analyze
from clora.prompt.relations import Order, items, orders


def said(between: str) -> tuple[Order, ...]:
    base = analyze(f"a <lora:a:1:words=cat> cat {between} <lora:b:1:words=dog> dog on grass").variants[0]
    return orders(base.text, base.subjects)


@pytest.mark.parametrize(("between", "wanted"), [
    ("behind a", Order(0, 1, 0)),
    ("in front of the", Order(1, 0, 0)),
    ("sleeping in  front of a", Order(1, 0, 0)),
    ("to the left of a", Order(0, 1, 1)),
    ("standing right of another", Order(1, 0, 1)),
    ("riding a", Order(0, 1, 0)),
    ("under a (", Order(1, 0, 0)),
])  # fmt: skip
def test_a_relation_orders_two_subjects(between: str, wanted: Order) -> None:
    assert said(between) == (wanted,)


@pytest.mark.parametrize("between", [
    "and a", "next to a", ", behind a", "hiding behind a tree and a", "behind a fence, a", "behind " * 9 + "a",
])  # fmt: skip
def test_other_words_order_nothing(between: str) -> None:
    assert said(between) == ()


def test_only_neighbours_are_ordered() -> None:
    text = "a <lora:a:1:words=cat> cat behind a <lora:b:1:words=dog> dog behind a <lora:c:1:words=fox> fox"
    base = analyze(text).variants[0]
    assert orders(base.text, base.subjects) == (Order(0, 1, 0), Order(1, 2, 0))


@pytest.mark.parametrize(("between", "wanted"), [
    ("wearing a", (1,)), ("that is holding  his", (1,)), ("dressed in", (1,)), ("carries the (", (1,)),
    ("and a", ()), ("in a", ()), ("with a", ()), ("wearing a hat and a", ()), (", wearing a", ()),
])  # fmt: skip
def test_what_is_worn_or_held_is_an_item(between: str, wanted: tuple[int, ...]) -> None:
    base = analyze(f"a <lora:a:1:words=cat> cat {between} <lora:b:1:words=dog> dog on grass").variants[0]
    assert items(base.text, base.subjects) == wanted
