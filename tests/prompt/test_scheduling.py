from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clora.prompt.scheduling import schedule
from tests.timing import Clock

Plain = list[tuple[int, str]]


def plain(text: str, steps: int = 10, base_steps: int | None = None) -> Plain:
    return [(end, str(resolved)) for end, resolved in schedule(text, steps, base_steps=base_steps)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # the examples of AUTOMATIC1111's own documentation of its parser
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a|(b:1.1)]", [(i, "a" if i % 2 else "(b:1.1)") for i in range(1, 11)]),
        ("[fe|]male", [(i, "female" if i % 2 else "male") for i in range(1, 11)]),
        ("[fe|||]male", [(i, "female" if i % 4 == 1 else "male") for i in range(1, 11)]),
        # and that parser's output for other texts
        ("[a::0.5]", [(5, "a"), (10, "")]),
        ("[a:b:12.]", [(10, "a")]),
        ("[a:b:1e-1]", [(10, "b")]),
        ("[a:b:-2]", [(10, "b")]),
        ("[a:\\]b:3]", [(3, "a"), (10, "\\]b")]),
        ("[(a:b):c:2]", [(2, "(a:b)"), (10, "c")]),
        ("[1:2]", [(2, ""), (10, "1")]),
        ("[[a:3]", [(3, "["), (10, "[a")]),
        ("[a:b: :2]", [(10, "[a:b: :2]")]),
        ("a | [b:3]", [(10, "a | [b:3]")]),
        ("(a|b) [c:3]", [(10, "(a|b) [c:3]")]),
        ("[a|b:3]", [(10, "[a|b:3]")]),
        ("[a:3] \\", [(10, "[a:3] \\")]),
        ("a BREAK [b:3]", [(3, "a BREAK "), (10, "a BREAK b")]),
        ("[猫:🐱:5]", [(5, "猫"), (10, "🐱")]),
    ],
)
def test_as_automatic1111(text: str, expected: Plain) -> None:
    assert plain(text) == expected


def test_hires_pass_continues_the_steps() -> None:
    assert plain("a [b:.5] c", 10, 10) == [(10, "a b c")]
    assert plain("a [b:1.5] c", 10, 10) == [(5, "a  c"), (10, "a b c")]
    assert plain("a [b:12] c", 10, 10) == [(2, "a  c"), (10, "a b c")]


syntax = st.lists(st.sampled_from([*"ab []():|\\3\n", ":0.5]", "[a:b:2]", "[c|d]"]), max_size=25).map("".join)


@given(syntax | st.text(max_size=40), st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_every_character_knows_its_source(text: str, steps: int) -> None:
    entries = schedule(text, steps)
    assert [end for end, _ in entries] == sorted({end for end, _ in entries})
    assert entries[-1][0] == steps
    for _, resolved in entries:
        assert resolved.text == "".join(text[i] for i in resolved.offsets)
        assert list(resolved.offsets) == sorted(set(resolved.offsets))


@pytest.mark.parametrize("piece", ["[", "]", "([", "[a:", "[[a:3]", ":", "[a|", "\\", "[a:1" + "0" * 400 + "]"])
def test_malicious_text_takes_linear_time(piece: str) -> None:
    clock = Clock()
    text = piece * 5000
    assert schedule(text + "a" + "]" * 5000, 4)[-1][0] == 4
    assert clock.seconds() < 3
