from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clora.prompt.emphasis import parse_attention
from clora.prompt.scheduling import schedule
from tests.timing import Clock


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # the examples of AUTOMATIC1111's documentation of its parser
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("\\(literal\\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.5730000000000004),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641000000000006),
                (".", 1.1),
            ],
        ),
        ("", [("", 1.0)]),
        ("[a]", [("a", 1 / 1.1)]),
        ("a)b]", [("a)b]", 1.0)]),
        ("a:1.2)", [("a:1.2)", 1.0)]),
        ("[a:1.2)", [("a:1.2)", 1 / 1.1)]),
        ("(a:-0.5)", [("a", -0.5)]),
        ("\\\\ \\a", [("\\ a", 1.0)]),
        ("a BREAK b", [("a", 1.0), ("BREAK", -1), ("b", 1.0)]),
        ("a\n BREAK BREAKS", [("a", 1.0), ("BREAK", -1), ("BREAKS", 1.0)]),
        ("BREAK BREAK", [("", 1.0), ("BREAK", -1), ("", 1.0), ("BREAK", -1), ("", 1.0)]),
        ("(a BREAK b:2)", [("a", 2.0), ("BREAK", -2), ("b", 2.0)]),
    ],
)
def test_as_automatic1111(text: str, expected: list[tuple[str, float]]) -> None:
    assert [(segment.text, segment.weight) for segment in parse_attention(text)] == expected


def test_break_counts_only_outside_weights() -> None:
    assert [segment.is_break for segment in parse_attention("a BREAK b")] == [False, True, False]
    assert not any(segment.is_break for segment in parse_attention("(a BREAK b:2)"))


def test_an_invalid_number_is_text() -> None:
    assert [segment.text for segment in parse_attention("(a:1.2.3) b")] == ["a:1.2.3) b"]


@given(st.lists(st.sampled_from([*"ab ()[]\\:,\n", ":1.5)", " BREAK ", "猫", "🐱"]), max_size=25).map("".join))
@settings(max_examples=300, deadline=None)
def test_characters_keep_their_source(text: str) -> None:
    for _, resolved in schedule(text, 3):
        offsets: list[int] = []
        for segment in parse_attention(resolved):
            assert segment.text == "".join(text[i] for i in segment.offsets)
            offsets += segment.offsets
        assert offsets == sorted(set(offsets))


@pytest.mark.parametrize("piece", ["(", "[", "(a", "a)", "(a:1.1)", ":1", "\\", "BREAK ", " ", "([a"])
def test_malicious_text_takes_linear_time(piece: str) -> None:
    clock = Clock()
    assert parse_attention(piece * 10000 + "a")
    assert clock.seconds() < 3
