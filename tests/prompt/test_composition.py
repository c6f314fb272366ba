from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clora.errors import CLoRAError
from clora.prompt import Composition, LoraUse, Span, Variant, WordsOverride, WordsSource, analyze
from tests.timing import Clock

EXAMPLE = (
    "a photo of a <lora:blackcat:1:words=cat:trigger=sks> cat and a <lora:browndog:0.8> sks dog, "
    "<lora:watercolor:0.6:role=style>"
)


def cut(variant: Variant, spans: tuple[Span, ...]) -> list[str]:
    return [variant.text[a:b] for a, b in spans]


def words(composition: Composition) -> list[str]:
    assert composition.composes
    return [concept.words for concept in composition.concepts]


def test_an_example_with_every_role() -> None:
    composition = analyze(EXAMPLE, "blurry")
    base, cat, dog = composition.variants
    assert composition.composes
    assert base.text == composition.text == "a photo of a cat and a sks dog"
    assert cat.text == "a photo of a sks cat and a sks dog"
    assert dog.text == base.text
    assert composition.host_text == "a photo of a cat and a sks dog, <lora:watercolor:0.6:role=style>"
    assert composition.styles == (LoraUse("watercolor", 0.6, 0.6),)
    assert [variant.loras for variant in composition.variants] == [
        (),
        (LoraUse("blackcat"),),
        (LoraUse("browndog", 0.8, 0.8),),
    ]
    assert {variant.negative for variant in composition.variants} == {"blurry"}
    for variant in composition.variants:
        assert [cut(variant, spans) for spans in variant.subjects] == [["cat"], ["sks dog"]]
    assert [cut(variant, variant.triggers) for variant in composition.variants] == [[], ["sks"], []]
    assert [concept.words_source for concept in composition.concepts] == [WordsSource.TAG, WordsSource.FOLLOWING]


@pytest.mark.parametrize(
    ("after", "found"),
    [
        ("cat and more", "cat"),
        ("the old cat, black", "old cat"),
        ("cat. A house", "cat"),
        ("cat\nhouse", "cat"),
        ("cat BREAK house", "cat"),
        ("cat next to a house", "cat"),
        ("next cat Beside", "next cat"),
        ("cat holding a mug", "cat"),
        ("cat in a hat", "cat"),
        ("(old (cat:1.2)) with", "old cat"),
        ("[cat] on", "cat"),
        ("cat \\(animal\\) at", "cat \\(animal\\)"),
        ("old-time v1.5 cat; x", "old-time v1.5 cat"),
        ("[black cat:white cat:0.5] on", "black cat white cat"),
        ("[cat|fox], x", "cat fox"),
        ("🐱, x", "🐱"),
        ("猫\uff0c家", "猫"),
        ("cat <hypernet:f:1> house", "cat"),
    ],
)
def test_words_that_follow_the_tag(after: str, found: str) -> None:
    composition = analyze(f"a <lora:x:1> {after} <lora:y:1> dog")
    assert words(composition) == [found, "dog"]
    spans = composition.variants[0].subjects[0]
    assert " ".join(cut(composition.variants[0], spans)) == found


@pytest.mark.parametrize(
    ("first", "found"),
    [("a <lora:x:1> person", "person"), ("<lora:x:1:trigger=sks> person", "person"), ("A <lora:x:1> character",
     "character"), ("the <lora:x:1> people", "people")],
)  # fmt: skip
def test_a_general_noun_is_a_subject_after_an_article_or_with_a_trigger(first: str, found: str) -> None:
    assert words(analyze(f"{first} and a <lora:y:1> dog")) == [found, "dog"]


def test_a_general_noun_alone_is_no_subject() -> None:
    assert not analyze("<lora:x:1> person, <lora:y:1> outdoors").composes


def test_words_sources_in_order() -> None:
    rows = {"x": WordsOverride(words="fox", trigger="qqq")}
    dog = ", a <lora:y:1> dog"
    tagged = analyze("a <lora:x:1:words=hen> cat, fox, hen" + dog, overrides=rows)
    assert (words(tagged)[0], tagged.concepts[0].words_source) == ("hen", WordsSource.TAG)
    panel = analyze("a <lora:x:1> cat, fox, hen" + dog, overrides=rows)
    assert (words(panel)[0], panel.concepts[0].words_source) == ("fox", WordsSource.PANEL)
    assert panel.variants[1].text == "a qqq cat, fox, hen, a dog"
    activation = analyze("a fox, a cat <lora:x:1>" + dog, activation_text={"x": ["sks hen", "wolf, FOX"]})
    assert (words(activation)[0], activation.concepts[0].words_source) == ("fox", WordsSource.ACTIVATION)
    called = analyze("a fox, a cat <lora:x:1>" + dog, activation_text=lambda name: ["cat"] * (name == "x"))
    assert words(called)[0] == "cat"
    name = analyze("a fox, a cat, grass <lora:blackcat_v2:1>" + dog)
    assert (words(name)[0], name.concepts[0].words_source) == ("cat", WordsSource.NAME)
    before = analyze("a fox, a black cat <lora:x:1>" + dog)
    assert (words(before)[0], before.concepts[0].words_source) == ("black cat", WordsSource.BEFORE)
    with pytest.raises(CLoRAError, match=r'"x".*<lora:x:1:words=cat>'):
        analyze("a fox, a cat, grass <lora:x:1:role=concept>" + dog)


def test_the_panels_role_counts_only_if_the_tag_has_none() -> None:
    text = "<lora:x:1> cat, <lora:y:1> dog <lora:z:1{}>"
    rows = {"z": WordsOverride(role="style")}
    assert analyze(text.format(""), overrides=rows).styles == (LoraUse("z"),)
    assert analyze(text.format(":role=off"), overrides=rows).off == (LoraUse("z"),)


@pytest.mark.parametrize("prompt", ["<lora:x:1> cat and <lora:y:1> dog", "<lora:x:1> cat"])
def test_corrections_of_loras_that_are_not_in_the_prompt_give_a_warning(prompt: str) -> None:
    rows = {"x": WordsOverride(trigger="sks"), "z": WordsOverride(words="fox"), "left over": WordsOverride()}
    (warning,) = analyze(prompt, overrides=rows).warnings
    assert warning == 'The corrections for "z" are ignored: the prompt has no LoRA tag of that name.'
    assert analyze(prompt, overrides={"x": WordsOverride(words="cat")}).warnings == ()


def test_tags_side_by_side_are_one_concept() -> None:
    composition = analyze("a <lora:girl:1> <lora:w:0.5:role=style> (<lora:dress:0.7> queen:1.1) and <lora:d:1> dog")
    assert [use.name for use in composition.concepts[0].loras] == ["girl", "dress"]
    assert words(composition) == ["queen", "dog"]
    apart = analyze("a cat and a dog <lora:x:1:words=cat> <lora:y:1:words=dog>")
    assert words(apart) == ["cat", "dog"]


def test_roles_and_variants() -> None:
    composition = analyze(
        "<lora:x:1:trigger=sks> cat, <lora:y:1> dog, <lora:hill:1:role=background:trigger=hhh>, "
        "<lora:ink:0.5:role=style@dog:trigger=ink>, <lora:h:1:role=off>"
    )
    base, cat, dog = composition.variants
    assert base.loras == composition.background == (LoraUse("hill"),)
    assert dog.loras == (LoraUse("y"), LoraUse("ink", 0.5, 0.5))
    assert composition.concepts[1].styles == (LoraUse("ink", 0.5, 0.5),)
    assert (base.text, cat.text, dog.text) == ("cat, dog, hhh", "sks cat, dog", "cat, dog, ink")
    assert (cut(cat, cat.triggers), dog.triggers, base.triggers) == (["sks"], (), ())
    assert composition.host_text == "cat, dog, <lora:h:1:role=off>"
    assert composition.off == (LoraUse("h"),)


def starts(composition: Composition) -> list[list[int]]:
    return [[span.start for span in spans] for spans in composition.variants[0].subjects]


def test_occurrences() -> None:
    twins = "1girl red, 1girl blue, <lora:a:1:words=1girl{}>, <lora:b:1:words=1girl{}>"
    assert starts(analyze(twins.format("", ""))) == [[0], [11]]
    assert starts(analyze(twins.format("#2", ""))) == [[11], [0]]
    assert starts(analyze(twins.format(":nth=2", ":nth=1"))) == [[11], [0]]
    after = analyze("a <lora:a:1> cat and a <lora:b:1> cat")
    assert [concept.occurrence for concept in after.concepts] == [1, 2]
    assert starts(after) == [[2], [12]]
    assert starts(analyze("cat, a <lora:b:1> dog, cat <lora:a:1:words=cat>")) == [[7], [0, 12]]


def test_words_over_attention_syntax_give_one_span_per_run() -> None:
    composition = analyze("an old (cat:1.2), a <lora:b:1> dog, x <lora:a:1:words=old cat>")
    assert cut(composition.variants[0], composition.variants[0].subjects[1]) == ["old", "cat"]
    split = analyze("an old <lora:a:1:words=old cat:trigger=sks> cat, a <lora:b:1> dog")
    assert cut(split.variants[0], split.variants[0].subjects[0]) == ["old cat"]
    assert cut(split.variants[1], split.variants[1].subjects[0]) == ["old", "cat"]


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("two cats, <lora:a:1:words=cats>, <lora:b:1:words=cats>", "once for each subject"),
        ("a cat, <lora:a:1:words=cat#2>, <lora:b:1> dog", 'occurrence 2 of "cat", but the prompt has it once'),
        ("a cats, <lora:a:1:words=cat>, <lora:b:1> dog", "not in the prompt"),
        ("a <lora:a:1> cat, <lora:b:1:words=cat#1>", "both draw"),
        ("<lora:a:1> cat, <lora:b:1> dog, <lora:s:1:role=style@fox>", '"cat", "dog"'),
        ("<lora:a:1> cat, <lora:b:1> cat, <lora:s:1:role=style@cat>", "nth=2"),
        ("<lora:a:1> cat, <lora:b:1> dog <lora:a:1:role=style>", "applied twice"),
    ],
)
def test_what_cannot_be_composed(prompt: str, named: str) -> None:
    with pytest.raises(CLoRAError) as error:
        analyze(prompt)
    assert named in str(error.value)
    assert str(error.value).endswith(".")


def test_style_on_one_of_two_cats() -> None:
    composition = analyze("<lora:a:1> cat, <lora:b:1> cat, <lora:s:1:role=style@cat:nth=2>")
    assert [len(concept.styles) for concept in composition.concepts] == [0, 1]


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a cat",
        "<lora:x:1> masterpiece AND x",
        "a <lora:s:1:role=style> cat",
        "<lora:x:1><lora:y:1> cat",
        "<lora:x:1> cat AND <lora:y:1> dog",
        "<lora:x:1> cat AND_PERP <lora:y:1> dog",
    ],
)
def test_inactive(prompt: str) -> None:
    composition = analyze(prompt)
    assert not composition.composes
    assert composition.note.startswith("CLoRA is inactive for this prompt")
    assert composition.host_text == prompt
    assert len(composition.variants) == 1


def test_one_warning_for_arguments_of_other_extensions() -> None:
    composition = analyze("<lora:x:1:lbw=A:start=5> cat, <lora:y:1:stop=3> dog, <lora:s:1:role=style:lbw=B>")
    (warning,) = composition.warnings
    assert "lbw=A" in warning
    assert "stop=3" in warning
    assert "lbw=B" not in warning


def test_other_tags_are_removed_only_if_the_host_removes_them() -> None:
    prompt = "<lora:x:1> cat <hypernet:h:1>, <lora:y:1> dog"
    assert analyze(prompt).text == "cat <hypernet:h:1>, dog"
    dropped = analyze(prompt, drop_other_tags=True)
    assert (dropped.text, dropped.host_text) == ("cat, dog", "cat <hypernet:h:1>, dog")


PIECES = ["cat", "dog", "old ", " ", ", ", "(", ")", "[", ":0.5]", ":1.2)", "|", "BREAK", "\\(", "猫", "🐱"]
PIECES += [" and ", "\n"]
TAGS = [
    "<lora:x:1>",
    "<lora:y:1:trigger=sks>",
    "<lora:z:1:words=cat#2>",
    "<lora:v:1:words=dog:trigger=a b>",
    "<lora:s:1:role=style:trigger=ink>",
    "<lora:t:1:role=style@cat>",
    "<lora:b:1:role=background>",
    "<hypernet:h:1>",
]


def bare(text: str) -> str:
    """The text without the style's trigger, white space and commas."""
    return "".join(text.replace("ink", "").replace(",", "").split())


mixed = st.lists(st.sampled_from(PIECES + TAGS), max_size=5).map("".join)
two_concepts = st.tuples(mixed, mixed, mixed).map(
    lambda texts: f"{texts[0]}pig <lora:p:1:trigger=sks> pig,{texts[1]} <lora:q:1> old owl, {texts[2]}"
)


@given(two_concepts | mixed)
@settings(max_examples=400, deadline=None)
def test_variants_differ_only_by_their_triggers(prompt: str) -> None:
    try:
        composition = analyze(prompt)
    except CLoRAError:
        return
    base = composition.variants[0]
    for number, variant in enumerate(composition.variants):
        assert "<lora:" not in variant.text
        for concept, spans in enumerate(variant.subjects):
            assert bool(spans) == bool(composition.concepts[concept].words)
            same = "".join("".join(cut(variant, spans)).split())
            assert same == "".join("".join(cut(base, base.subjects[concept])).split())
        own = composition.concepts[number - 1].triggers if number else ()
        assert sorted(cut(variant, variant.triggers)) == sorted(own)  # in the order of the text, or of the tags
    if composition.composes:
        inked = "<lora:s:1" in prompt
        for variant in composition.variants[1:]:
            kept = list(variant.text)
            for start, end in reversed(variant.triggers):
                del kept[start:end]
            assert bare("".join(kept)) == bare(base.text)
            assert ("ink" in variant.text) == inked


@pytest.mark.parametrize("piece", ["(", "cat ", "<lora:x:1:role=style> ", "[a:", "AN ", "next ", ":"])
def test_long_prompts_take_linear_time(piece: str) -> None:
    clock = Clock()
    composition = analyze(piece * 2000 + "<lora:p:1> pig, <lora:d:1> dog")
    assert composition.composes
    assert clock.seconds() < 4


@pytest.mark.parametrize(
    ("words", "tag"),
    [
        ([f"word{i}" for i in range(3000)], "<lora:name{}:1>"),
        ([chr(0x4E00 + i) for i in range(12000)], "<lora:{}\u4e00\u4e01:1>"),  # names with words of the prompt
        (["\u4e00"] * 12000, "<lora:blackcat{}:1>"),
        (["cat"] * 6000, "<lora:blackcat{}:1>"),
    ],
)
def test_many_names_in_a_long_prompt_take_linear_time(words: list[str], tag: str) -> None:
    tags = "".join(tag.format(i) for i in range(1000))
    clock = Clock()
    analyze(tags + " ".join(words))
    analyze(" ".join(words) + tags)
    assert clock.seconds() < 8  # the slowest takes 2.8, and 4.5 while four processes run on two cores


def test_many_concepts() -> None:
    clock = Clock()
    composition = analyze("<lora:x:1> cat, " * 60)
    assert starts(composition) == [[5 * i] for i in range(60)]
    assert len(composition.variants) == 61
    assert clock.seconds() < 4


@pytest.mark.parametrize(("prompt", "late"), [
    ("a <lora:knight:1><lora:ink:1:trigger=ink style> knight and an <lora:owl:1> owl", ["ink"]),
    ("a <lora:knight:1> knight <lora:ink:1:role=style@knight> and an <lora:owl:1> owl", ["ink"]),
    ("a <lora:knight:1><lora:armor:1> knight and an <lora:owl:1> owl", []),
    ("a <clora:knight> knight <lora:ink:1:role=style@knight> and an <lora:owl:1> owl", []),
    ("a <lora:ink:1:trigger=ink style> knight and an <lora:owl:1> owl", []),
])  # fmt: skip
def test_a_style_on_a_subject_is_late_if_another_lora_draws_it(prompt: str, late: list[str]) -> None:
    composition = analyze(prompt)
    assert composition.composes
    assert [use.name for use in composition.variants[1].late] == late
    assert composition.variants[2].late == ()
