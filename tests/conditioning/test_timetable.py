"""Which text is active at which step, in each host's way of counting."""

from __future__ import annotations

import pytest

from clora.conditioning.timetable import PromptSteps, Timetable, joined


def texts(steps: PromptSteps, prompt: str, count: int) -> list[str]:
    table = steps.timetable(prompt)
    return [str(table.at(step)) for step in range(count)]


def test_a_text_is_active_through_its_last_step() -> None:
    assert texts(PromptSteps(4), "[day:night:0.5]", 4) == ["day", "day", "night", "night"]
    assert texts(PromptSteps(4), "[day:night:1]", 4) == ["day", "night", "night", "night"]
    assert texts(PromptSteps(4), "[a|b]", 4) == ["a", "b", "a", "b"]


def test_the_webuis_change_texts_one_evaluation_late() -> None:
    assert texts(PromptSteps(4, delay=1), "[day:night:0.5]", 5) == ["day", "day", "day", "night", "night"]
    assert texts(PromptSteps(4, delay=1), "[a|b]", 5) == ["a", "a", "b", "a", "b"]


def test_the_last_text_stays_active_after_its_end() -> None:
    assert texts(PromptSteps(2), "[day:night:1]", 5)[2:] == ["night"] * 3
    assert texts(PromptSteps(2), "a cat", 3) == ["a cat"] * 3


@pytest.mark.parametrize("delay", [0, 1])
def test_in_a_hires_pass_fractions_run_from_1_to_2(delay: int) -> None:
    found = texts(PromptSteps(4, first_pass=10, delay=delay), "[by day:at night:0.5] [rain:snow:1.5]", 4)
    changed = 2 + delay
    assert found == ["at night rain"] * changed + ["at night snow"] * (4 - changed)


def test_values_are_replaced_in_order() -> None:
    table = Timetable(((2, "a"), (5, "b")))
    assert table.values == ("a", "b")
    assert table.map(str.upper).entries == ((2, "A"), (5, "B"))
    assert table.replaced([1, 2]).entries == ((2, 1), (5, 2))
    with pytest.raises(ValueError, match="shorter"):
        table.replaced([1])


def test_joined_timetables_are_each_what_they_were() -> None:
    one, other = Timetable(((2, "a"), (5, "b"))), Timetable(((1, 1), (2, 2), (4, 3), (6, 4)))
    both = joined([one, other, Timetable.constant("c")])  # type: ignore[list-item]
    assert [both.at(step) for step in range(8)] == [(one.at(step), other.at(step), "c") for step in range(8)]
