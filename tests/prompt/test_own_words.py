"""Words of a subject's own (say=): only its own variant reads them; subjects without a LoRA (<clora:WORDS>)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clora.errors import CLoRAError
from clora.prompt import Composition, LoraUse, Variant, WordsOverride, analyze, parse_tags, schedule
from clora.prompt.own_words import readable_by_host
from clora.prompt.region import NAMED
from tests.timing import Clock

DOG = " and a <lora:dog:1> dog"


def own(prompt: str, number: int = 1, **options: object) -> str:
    """The text of a concept's own variant."""
    return analyze(prompt, **options).variants[number].text  # type: ignore[arg-type]


def cut(variant: Variant) -> list[str]:
    return ["|".join(variant.text[a:b] for a, b in spans) for spans in variant.subjects]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <lora:cat:1:say=red scarf, smiling> cat on grass", "a cat, red scarf, smiling, on grass"),
        ("a <lora:cat:1:say= red   scarf, > cat, grass", "a cat, red scarf, grass"),
        ("a <lora:cat:1:say=with a red scarf> cat on grass", "a cat with a red scarf on grass"),
        ("a <lora:cat:1:say=wearing a scarf, smiling> cat on grass", "a cat wearing a scarf, smiling, on grass"),
        ("a <lora:cat:1:say=(red scarf:1.2), [smile]> cat", "a cat, (red scarf:1.2), [smile],"),
        ("a <lora:cat:1:say=[red:blue:0.5] scarf> cat", "a cat, [red:blue:0.5] scarf,"),
        ("(a <lora:cat:1:say=red scarf> cat:1.2) on grass", "(a cat:1.2), red scarf, on grass"),
        ("((a <lora:cat:1:say=red> cat)) on grass", "((a cat)), red, on grass"),
        ("(a <lora:cat:1:say=red> cat on grass:1.2)", "(a cat, red, on grass:1.2)"),
        ("<lora:cat:1:say=red> [a cat:a fox:0.5] on grass", "[a cat:a fox:0.5], red, on grass"),
        ("[a <lora:cat:1:say=red> cat:a fox:0.5] on grass", "[a cat, red:a fox:0.5] on grass"),
        ("[a hen:a cat:0.5] on grass <lora:x:1:words=cat:say=red>", "[a hen:a cat, red:0.5] on grass"),
        ("a cat on grass <lora:cat:1:say=red>", "a cat, red, on grass"),
        ("a cat <lora:x:1:say=red> on grass", "a cat, red, on grass"),
        ("<lora:x:1:words=sks:say=red> sks cat on grass", "sks cat, red, on grass"),
        ("<lora:x:1:say=red:trigger=zz> cat BREAK grass", "zz cat, red BREAK grass"),
        ("<lora:x:1:say=red> cat\ngrass", "cat, red\ngrass"),
        ("a <lora:x:1:say=scarf \\(red\\)> cat \\(animal\\) here", "a cat \\(animal\\) here, scarf \\(red\\),"),
        ("<lora:x:1:say=red> cat, a cat", "cat, red, a cat"),
        ("cat, grass, cat <lora:x:1:words=cat:say=red>", "cat, red, grass, cat, red,"),
        ("a <lora:a:1:say=red><lora:b:1:say=big> cat", "a cat, red, big,"),
        ("a <lora:a:1:say=> cat", "a cat"),
        # Own words that have the subject in them are put around it.
        ("a <lora:a:1:say=a blue cat> cat on grass", "a blue cat on grass"),
        ("a <lora:a:1:say=big cat in a hat, smiling> cat", "a big cat in a hat, smiling,"),
        ("a <lora:a:1:say=cat wearing a hat> cat", "a cat wearing a hat"),
        ("a <lora:a:1:say=blue cat> sks cat", "a blue sks cat"),
        ("a cat <lora:a:1:say=blue cat:trigger=sks>", "a blue sks cat"),
        ("(a <lora:a:1:say=(blue cat:1.3), smiling> cat:1.2) on grass", "(a (blue cat:1.3), smiling:1.2) on grass"),
        ("a <lora:a:1:say=(blue cat, smiling:1.3)> cat on grass", "a (blue cat, smiling:1.3) on grass"),
        ("a <lora:a:1:say=[blue:red:3] cat> cat", "a [blue:red:3] cat"),
        ("a <lora:a:1:say=holding a cat toy> cat", "a cat holding a cat toy"),
        ("a <lora:a:1:say=blue cat ears> cat", "a cat, blue cat ears,"),
        ("<lora:a:1:say=blue cat> [cat:hen:3] on grass", "[cat:hen:3], blue cat, on grass"),
    ],
)
def test_own_words_follow_the_phrase_that_names_the_subject(text: str, expected: str) -> None:
    read = analyze(text + DOG)
    assert read.composes
    assert read.variants[1].text == f"{expected} and a dog"
    # Nobody else reads them.
    assert read.text == read.variants[2].text
    assert [[one.replace("|", " ") for one in cut(variant)] for variant in read.variants] == [
        [one.replace("|", " ") for one in cut(read.variants[0])]
    ] * 3
    assert [read.variants[1].text[a:b] for a, b in read.variants[1].triggers] == list(read.concepts[0].triggers)
    assert read.merged.text == read.variants[1].text
    assert read.warnings == ()


def test_several_subjects_have_words_of_their_own() -> None:
    read = analyze("a <lora:a:1:say=red> cat and a <lora:b:1:say=blue> cat on grass")
    assert [variant.text for variant in read.variants] == [
        "a cat and a cat on grass", "a cat, red, and a cat on grass", "a cat and a cat, blue, on grass",
    ]  # fmt: skip
    assert read.merged.text == "a cat, red, and a cat, blue, on grass"
    assert [concept.say for concept in read.concepts] == ["red", "blue"]


def test_a_schedule_inside_own_words_is_the_prompts() -> None:
    text = own("a <lora:cat:1:say=[red:blue:0.5] scarf> cat" + DOG)
    assert [str(resolved) for _, resolved in schedule(text, 10)] == [
        "a cat, red scarf, and a dog", "a cat, blue scarf, and a dog",
    ]  # fmt: skip


def test_own_words_make_a_concept_of_a_style() -> None:
    assert analyze("a <lora:anime_style:1:say=red> cat" + DOG).composes
    assert not analyze("a <lora:anime_style:1> cat" + DOG).composes


def test_corrections_say_what_the_tag_does_not() -> None:
    rows = {"cat": WordsOverride(say="(red:1.2)"), "dog": WordsOverride(say="blue")}
    read = analyze("a <lora:cat:1> cat and a <lora:dog:1:say=green> dog", overrides=rows)
    assert [concept.say for concept in read.concepts] == ["(red:1.2)", "green"]
    none = analyze("a <lora:cat:1:say=> cat" + DOG, overrides=rows)
    assert [concept.say for concept in none.concepts] == ["", "blue"]


@pytest.mark.parametrize(
    ("text", "expected", "told"),
    [
        ("a <lora:cat:1:say=a (b> cat", "a cat, a b,", "do not match"),
        ("a <lora:cat:1:say=b) c:words=cat> cat", "a cat, b c,", "do not match"),
        ("a <lora:cat:1> cat, <lora:ink:1:role=style:say=red>", "a cat,", "its role is style"),
    ],
)
def test_what_cannot_be_read_gives_a_warning(text: str, expected: str, told: str) -> None:
    read = analyze(text + DOG)
    assert read.variants[1].text == f"{expected} and a dog"
    (warning,) = read.warnings
    assert told in warning


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("<lora:x:1:say=red, blue>", "<lora:x:1:say=red, blue>"),
        ("<lora:x:1:say=(red:1.2):te=0.5> cat", "<lora:x:1:te=0.5> cat"),
        ("a <lyco:x:0.8:say=a=b> cat, <clora:y:say=(red:1.2)>", "a <lyco:x:0.8> cat, <clora:y>"),
        ("<lora:x:1:say=(red:1.2>", "<lora:x:1:say=(red:1.2>"),
    ],
)
def test_a_host_never_takes_a_weight_inside_for_the_loras(written: str, read: str) -> None:
    assert readable_by_host(written) == read


def test_an_inactive_prompt_says_that_own_words_are_not_read() -> None:
    read = analyze("a <lora:cat:0.8:say=(red:1.2)> cat")
    assert not read.composes
    assert "say= are not read" in read.note
    assert read.host_text == "a <lora:cat:0.8> cat"


# ------------------------------------------------------------------------------------ without a LoRA


def test_a_subject_without_a_lora() -> None:
    read = analyze(
        "a <lora:ann:1> girl, a <lora:bob:1> man and a <clora:woman:place=left:say=green coat> woman in a park"
    )
    assert [variant.text for variant in read.variants] == [
        *["a girl, a man and a woman in a park"] * 3, "a girl, a man and a woman, green coat, in a park",
    ]  # fmt: skip
    assert [variant.loras for variant in read.variants] == [(), (LoraUse("ann"),), (LoraUse("bob"),), ()]
    assert [concept.region for concept in read.concepts] == [None, None, NAMED["left"]]
    assert [concept.label for concept in read.concepts] == ["girl (ann)", "man (bob)", "woman"]
    assert read.variant_names == ("no LoRA", "ann", "bob", "woman")
    assert read.host_text == read.text
    assert [use.name for use in read.merged.loras] == ["ann", "bob"]
    assert read.warnings == ()


@pytest.mark.parametrize(
    ("prompt", "starts"),
    [
        ("a <clora:cat> cat and a <lora:x:1> cat", [2, 12]),
        ("a <lora:x:1> cat and a <clora:cat> cat", [2, 12]),
        ("a cat, a <clora:cat> tall cat, a <lora:x:1> dog", [14, 21]),
        ("a cat and a cat, a dog <clora:cat:nth=2><lora:x:1:words=dog>", [12, 19]),
        ("a <clora:cat:say=red> cat and a <clora:cat:say=blue> cat", [2, 12]),
        ("a cat and a dog <lora:x:1:words=dog><clora:third one:words=cat>", [12, 2]),
    ],
)
def test_which_words_a_subject_without_a_lora_has(prompt: str, starts: list[int]) -> None:
    read = analyze(prompt)
    assert read.composes
    assert [spans[0].start for spans in read.variants[0].subjects] == starts
    assert read.warnings == ()


def test_its_tag_is_not_joined_with_a_lora_beside_it() -> None:
    read = analyze("a girl and a woman in a park <lora:girl:1><clora:woman:say=red>")
    assert [(concept.words, len(concept.loras)) for concept in read.concepts] == [("girl", 1), ("woman", 0)]
    taken = analyze("a woman <clora:woman>, <lora:woman:1>" + DOG)
    assert [concept.names for concept in taken.concepts] == ["woman", "dog"]
    assert [len(concept.loras) for concept in taken.concepts] == [1, 1]


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        ("<clora:fox:say=red>", "is not in the prompt"),
        ("<clora:cat:say=red>", "not in the prompt once for each subject"),
        ("<clora:hat:0.8:role=style:dyn=4> hat", "ignores these arguments of subjects without a LoRA: 0.8, role=style"),
    ],
)
def test_a_tag_without_use_is_left_out_with_a_warning(tag: str, told: str) -> None:
    read = analyze(f"a <lora:cat:1> cat and a <lora:dog:1> dog, {tag}")
    assert read.composes
    assert read.host_text == "a cat and a dog" + ", hat" * tag.endswith("hat")
    (warning,) = read.warnings
    assert told in warning
    assert read.off == ()


def test_loras_have_their_words_before_subjects_without_one() -> None:
    read = analyze("a cat and a dog <clora:cat>, <lora:x:1:words=cat>, <lora:y:1:words=dog>")
    assert [concept.names for concept in read.concepts] == ["x", "y"]


@pytest.mark.parametrize(
    ("tag", "told"),
    [("<clora:>", "no words"), ("<clora:cat:place=behind>", "place"), ("<clora:cat:plac=left>", "write place=")],
)
def test_a_tag_with_a_mistake_is_a_sentence(tag: str, told: str) -> None:
    with pytest.raises(CLoRAError, match=told):
        parse_tags(f"a cat {tag}")


def test_the_users_notes_of_a_lora_of_that_name_do_not_count() -> None:
    assert own("a <clora:sun:words=cat> cat" + DOG, activation_text={"sun": ["sks cat"]}) == "a cat and a dog"


def test_long_tags_take_linear_time() -> None:
    clock = Clock()
    for text in ("say=(" + ":" * 40_000, ":say=(" * 7000, "say=" + "(" * 20_000 + ")" * 20_000, "say=" + "(:)" * 9000):
        try:
            analyze(f"a <lora:cat:1:{text}> cat{DOG}")
        except CLoRAError:
            continue
    assert clock.seconds() < 8


PIECES = ["cat", "dog", "old ", " ", ", ", "(", ")", "[", ":0.5]", ":1.2)", "|", "BREAK", "\\(", "猫", " and ", "\n"]
PIECES += ["<lora:x:1:say=red scarf, x>", "<lora:y:1:say=(big:1.3):trigger=sks>", "<lora:z:1:words=cat:say=a (b>"]
PIECES += ["<clora:cat:say=in a hat>", "<clora:dog:nth=2>", "<clora:old cat:place=left:say=[a:b:2]>"]
mixed = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


def same_words(read: Composition) -> None:
    base = read.variants[0]
    for number, variant in enumerate(read.variants):
        assert "lora:" not in variant.text
        for concept, spans in enumerate(variant.subjects):
            found = "".join("".join(variant.text[a:b] for a, b in spans).split())
            assert found == "".join("".join(base.text[a:b] for a, b in base.subjects[concept]).split())
        if not number or not read.concepts[number - 1].say:
            continue
        assert read.concepts[number - 1].say in variant.text


@given(st.tuples(mixed, mixed, mixed))
@settings(max_examples=300, deadline=None)
def test_the_words_of_every_subject_stay_the_tracked_ones(texts: tuple[str, str, str]) -> None:
    try:
        read = analyze(f"{texts[0]}pig <lora:p:1:say=pink> pig,{texts[1]} <clora:owl:say=with hat> old owl, {texts[2]}")
    except CLoRAError:
        return
    if read.composes:
        same_words(read)
