from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clora.errors import CLoRAError
from clora.prompt.emphasis import parse_attention
from clora.prompt.tags import LoraTag, Role, parse_tags, remove_tags
from tests.timing import Clock

PIECES = [
    "a",
    "cat",
    " ",
    "  ",
    ", ",
    ",",
    ".",
    "\n",
    "(",
    ")",
    "[",
    ":1.2)",
    "BREAK",
    "AND",
    "\\(",
    "|",
    "一只猫",
    "🐱",
]
TAGS = ["<lora:x:1>", "<lora:y:0.5:words=cat>", "<lora:z:1:role=style>", "<lora:w>"]


def only(prompt: str) -> LoraTag:
    (tag,) = parse_tags(prompt)
    return tag


@pytest.mark.parametrize(
    ("text", "te", "unet", "dyn"),
    [
        ("<lora:x>", 1, 1, None),
        ("<lora:x:0.8>", 0.8, 0.8, None),
        ("<lora:x:0.8:0.5>", 0.8, 0.5, None),
        ("<lora:x:0.8:0.5:16>", 0.8, 0.5, 16),
        ("<lora:x:te=0.3>", 0.3, 0.3, None),
        ("<lora:x:0.8:unet=0:dyn=4>", 0.8, 0, 4),
        ("<lora:x:-1e-1>", -0.1, -0.1, None),
        ("<lyco:x:.5>", 0.5, 0.5, None),
    ],
)
def test_weights_as_the_built_in_extension_reads_them(text: str, te: float, unet: float, dyn: int | None) -> None:
    tag = only(text)
    assert (tag.name, tag.te, tag.unet, tag.dyn) == ("x", te, unet, dyn)


def test_arguments() -> None:
    tag = only("a <lora:old Cat v1.5 猫:1:words=old cat#2:trigger=sks x:lbw=OUTALL:start=5> cat")
    assert (tag.name, tag.words, tag.trigger) == ("old Cat v1.5 猫", "old cat#2", "sks x")
    assert tag.ignored == ("lbw=OUTALL", "start=5")
    assert (tag.span.start, tag.span.end) == (2, 74)
    assert only("<lora:x:1:words=cat:nth=2>").words == "cat#2"


@pytest.mark.parametrize(
    ("value", "role", "words"),
    [
        ("concept", Role.CONCEPT, None),
        ("style", Role.STYLE, None),
        ("style@old cat", Role.SUBJECT_STYLE, "old cat"),
        ("background", Role.BACKGROUND, None),
        ("off", Role.OFF, None),
    ],
)
def test_roles(value: str, role: Role, words: str | None) -> None:
    tag = only(f"<lora:x:1:role={value}>")
    assert (tag.role, tag.role_words, tag.role_given) == (role, words, True)


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("<lora::1>", "<lora::1>"),
        ("<lora:>", "<lora:>"),
        ("<lora:x:strong>", '"strong"'),
        ("<lora:x:nan>", '"nan"'),
        ("<lora:x:1:inf>", '"inf"'),
        ("<lora:x:>", "weight"),
        ("<lora:x:1:dyn=0>", "dyn="),
        ("<lora:x:1:role=hero>", '"hero"'),
        ("<lora:x:1:role=style@>", "style@WORDS"),
        ("<lora:x:1:word=cat>", "words="),
        ("<lora:x:1:triger=sks>", "trigger="),
        ("<lora:x:1:words=a:words=b>", "twice"),
        ("<lora:x:1:nth=2>", "nth="),
        ("<lora:x:1:words=a:nth=" + "9" * 5000 + ">", "nth="),
    ],
)
def test_mistakes_are_named_in_one_sentence(prompt: str, named: str) -> None:
    with pytest.raises(CLoRAError) as error:
        parse_tags(prompt)
    assert named in str(error.value)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_the_same_lora_may_draw_two_subjects() -> None:
    assert [tag.name for tag in parse_tags("<lora:x:1> cat, <lora:x:1> dog")] == ["x", "x"]


@pytest.mark.parametrize("text", ["<lora:foo a cat", "<hypernet:x:1>", "<b>", "lora:x:1>", "<Lora:x:1>", ""])
def test_other_text_is_no_tag(text: str) -> None:
    assert parse_tags(text) == ()
    assert remove_tags(text, ()) == text


@pytest.mark.parametrize(
    ("prompt", "clean"),
    [
        ("a <lora:x:1> cat", "a cat"),
        ("a <lora:x:1>cat", "a cat"),
        ("a cat <lora:x:1>", "a cat"),
        ("<lora:x:1> a cat", "a cat"),
        ("<lora:x:1>, a cat", "a cat"),
        ("a cat, <lora:x:1>", "a cat"),
        ("a cat <lora:x:1>, a dog", "a cat, a dog"),
        ("a cat, <lora:x:1>, a dog", "a cat, a dog"),
        ("a cat,<lora:x:1>,a dog", "a cat,a dog"),
        ("a cat, <lora:x:1> <lora:y:1>, a dog", "a cat, a dog"),
        ("<lora:x:1>, <lora:y:1>, a dog", "a dog"),
        ("(a cat <lora:x:1>:1.2)", "(a cat:1.2)"),
        ("(<lora:x:1> cat)", "(cat)"),
        ("a cat <lora:x:1>.", "a cat."),
        ("a cat<lora:x:1>dog", "a cat dog"),
        ("一只<lora:x:1>猫", "一只猫"),
        ("a  cat , b <lora:x:1> c", "a  cat , b c"),
        ("<lora:foo a, <lora:bar:1> dog", "<lora:foo a, dog"),
        ("<lora:x:1>", ""),
    ],
)
def test_removing_leaves_clean_text(prompt: str, clean: str) -> None:
    assert remove_tags(prompt, parse_tags(prompt)) == clean


mixed = st.lists(st.sampled_from(PIECES + TAGS), max_size=14).map("".join)


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s,]", text)


@given(mixed)
@settings(max_examples=300, deadline=None)
def test_removing_changes_nothing_else(prompt: str) -> None:
    tags = parse_tags(prompt)
    removed = remove_tags(prompt, tags)
    parts = re.split(r"(?:<lora:[^<>]*>)", prompt)
    expected = [word for part in parts for word in words(part)]
    if not re.search(r"[一-鿿](<lora:[^<>]*>)+\w|\w(<lora:[^<>]*>)+[一-鿿]", prompt):  # no spaces in that script
        assert words(removed) == expected
    assert re.sub(r"[\s,]", "", removed) == re.sub(r"[\s,]", "", "".join(parts))
    assert removed.count(",") <= prompt.count(",")


@given(st.lists(st.sampled_from(["(", ")", "[", "]", ":1.3)", "cat ", "dog, ", "\\("]), max_size=12), st.data())
@settings(max_examples=200, deadline=None)
def test_removing_keeps_every_weight(pieces: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(pieces)))
    prompt = "".join([*pieces[:index], "<lora:x:1>", *pieces[index:]])

    def weights(text: str) -> list[tuple[str, float]]:
        segments = parse_attention(text)
        return [(c, s.weight) for s in segments for c in s.text if not c.isspace() and c != ","]

    assert weights(remove_tags(prompt, parse_tags(prompt))) == weights("".join(pieces))


@given(st.text(max_size=60) | st.lists(st.sampled_from([*PIECES, "<lora:", ">", ":", "=", "words="])).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tags = parse_tags(text)
    except CLoRAError:
        assert "<lora:" in text or "<lyco:" in text
        return
    assert all(text[tag.span.start : tag.span.end].endswith(">") for tag in tags)
    if not tags:
        assert remove_tags(text, tags) == text


@pytest.mark.parametrize("piece", ["<lora:", "<lora:x:1>", "<lora:x:1> ", "<lora:x:1>, ", "a<lora:x:1:words=a>"])
def test_long_prompts_take_linear_time(piece: str) -> None:
    clock = Clock()
    text = piece * 5000
    remove_tags(text, parse_tags(text))
    assert clock.seconds() < 3
