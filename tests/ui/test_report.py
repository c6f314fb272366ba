"""The report on a prompt: a row for every tag, whatever the prompt's problems are, and the words to choose from."""

from __future__ import annotations

import json
import re

import pytest

from clora.errors import CLoRAError
from clora.prompt import WordsOverride
from clora.prompt.evidence import Evidence
from clora.ui.concept_table import table_html
from clora.ui.corrections import read_corrections, readable_corrections, with_changed_cell
from clora.ui.report import Report, Sources, report
from clora.ui.report_rows import IN_ALTERNATIVE

FILES = {
    "tabby": Evidence(tags=(("cat", 30), ("sitting", 3))),
    "bark": Evidence(texts=("brown dog",)),
}


def known(name: str) -> Evidence:
    return FILES.get(name, Evidence())


def read(prompt: str, corrections: str = "", *, alternatives: bool = False) -> Report:
    given, problem = readable_corrections(corrections)
    return report(
        prompt, corrections=given, sources=Sources(evidence=known, alternatives=alternatives), problem=problem
    )


def whys(found: Report) -> dict[str, str]:
    return {row.lora: row.why for row in found.rows}


def test_why_each_lora_has_its_role_and_words() -> None:
    found = read(
        "a cat on a sofa, brown dog, red fox, <lora:inkstyle:0.5>, <lora:tabby:1>, <lora:bark:1>, <lora:fox:1>, "
        "<lora:a:1:words=sofa>, a <lora:b:1> hen, <lora:c:-1>, <lora:d:1:role=off>, <lora:e:1>, man <lora:ann:1>, 8k",
        "e: role=background",
    )
    assert found.problem == ""
    assert whys(found) == {
        "tabby": "from its training tags", "bark": "from its activation text", "inkstyle": 'its name says "inkstyle"',
        "a": "words= in its tag", "b": "from the text after its tag", "fox": "from the text before its tag",
        "c": "its weight is negative", "d": "role= in its tag", "e": "your correction",
        "ann": "no words of the prompt tell what it draws",
    }  # fmt: skip
    assert {row.lora: row.role for row in found.rows if row.role != "concept"} == {
        "inkstyle": "style", "c": "off", "d": "off", "e": "background", "ann": "off",
    }  # fmt: skip


TAGS = "a <lora:one:1> cat and a <lora:two:0.5> dog, <lora:three:1:role=style>"


@pytest.mark.parametrize(
    ("prompt", "corrections", "said"),
    [
        (TAGS, "one: words=cow", '"cow"'),
        (TAGS, "one: role=bogus", "bogus"),
        (TAGS, "one: place=somewhere", "somewhere"),
        (TAGS, "one words", "cannot be read"),
        (TAGS, "{", "not valid JSON"),
        (TAGS, '{"one": {"word": "x"}}', "fields are"),
        (TAGS, "one: wrods=cat", "wrods"),
        (TAGS.replace("one:1", "one:1:words=cow"), "", '"cow"'),
        (TAGS.replace("one:1", "one:x"), "", "not a valid weight"),
        (TAGS.replace("one:1", "one:1:role=stlye"), "", "Unknown role"),
        (TAGS.replace("one:1", "one:1:wrds=cat"), "", "words="),
        (TAGS.replace("one:1", "one:1:place=up"), "", "up"),
        (TAGS.replace("one:1", "one:1:words=cat:words=cat"), "", "twice"),
        (TAGS.replace("role=style", "role=style@cow"), "", "cow"),
        (TAGS + ", <lora:three:1:role=concept:words=cat>", "", "applied twice"),
        (TAGS + " " + ", ".join(f"<lora:x{i}:1:words=cat>" for i in range(64)), "", "more than 64"),
        (TAGS + " word" * 20_000, "", "characters"),
    ],
)
def test_a_row_for_every_tag_whatever_is_wrong(prompt: str, corrections: str, said: str) -> None:
    found = read(prompt, corrections)
    assert said in found.problem
    assert not found.composes
    names = re.findall("<lora:([^:]+)", prompt)
    assert [row.lora for row in found.rows] == names
    # What is not concerned has its words as without the problem.
    if "word" * 2 not in prompt and len(prompt) < 1000:
        assert found.rows[1].words == "dog"
        assert found.rows[1].weight == "0.5"
    assert table_html(found.rows, found.choices).count("<tr data-words") == len(names)
    json.dumps(found.as_json())


def test_a_wrong_cell_keeps_what_was_typed_and_says_why() -> None:
    found = read(TAGS, "one: words=cow, place=somewhere\ntwo: role=bogus")
    one, two, _ = found.rows
    assert (one.words, one.place, one.wrong) == ("cow", "somewhere", ("place", "words"))
    assert '"cow"' in one.why
    assert "somewhere" in one.why
    assert (two.role, two.wrong) == ("bogus", ("role",))
    html = table_html(found.rows, found.choices)
    for cell in ('value="cow" data-lora="one" data-key="words"', 'data-lora="two" data-key="role"'):
        assert 'aria-invalid="true"' in html[html.index(cell) :].split(">")[0]
    assert html.count('aria-invalid="true"') == 3
    # A message has all that is wrong.
    assert all(part in found.problem for part in ("cow", "somewhere", "bogus"))


def test_lines_that_can_be_read_count_beside_one_that_cannot() -> None:
    found = read(TAGS, "nonsense\ntwo: words=cat\none: words=dog")
    assert [row.words for row in found.rows[:2]] == ["dog", "cat"]
    assert "nonsense" in found.problem
    with pytest.raises(CLoRAError, match="nonsense"):
        read_corrections("nonsense\ntwo: words=cat")


def test_a_tag_without_a_name_has_a_row_too() -> None:
    found = read("a <lora::1> cat and a <lora:two:1> dog")
    assert [row.lora for row in found.rows] == ["", "two"]
    html = table_html(found.rows, found.choices)
    assert "There is no LoRA name" in html
    assert 'data-lora="" data-key' not in html


def test_several_tags_of_one_lora_have_a_row_each() -> None:
    found = read("a <lora:one:0.5> cat and a <lora:two:1> dog <lora:one:0.25>")
    assert [(row.lora, row.weight, row.words, row.concept) for row in found.rows] == [
        ("one", "0.5", "cat", 0), ("two", "1", "dog", 1), ("one", "0.25", "cat", 0),
    ]  # fmt: skip


def test_unknown_loras_say_so_in_their_row() -> None:
    def check(name: str) -> None:
        if name != "two":
            raise CLoRAError(f'no LoRA "{name}"')

    found = report(TAGS, sources=Sources(check=check))
    assert found.problem == 'no LoRA "one"'  # the host loads the style
    assert [row.why for row in found.rows if "lora" in row.wrong] == ['no LoRA "one"', 'no LoRA "three"']
    assert report(TAGS, sources=Sources(check=check, loads_all=True)).problem == 'no LoRA "one" no LoRA "three"'


# ------------------------------------------------------------------------------------------------ choices


def values(found: Report) -> list[str]:
    return [one.value for one in found.choices]


@pytest.mark.parametrize(
    ("prompt", "offered"),
    [
        ("a <lora:one:1> cat and a <lora:two:1> dog on grass", ["cat", "dog", "grass"]),
        (
            "masterpiece, best quality, 2girls, solo, score_9, looking at viewer, ema hoshino, texas \\(arknights\\), "
            "(red dress:1.2), standing, <lora:one:1>, <lora:two:1>",
            ["ema hoshino", "ema", "hoshino", "texas \\(arknights\\)", "red dress", "dress"],
        ),
        (
            "photo of an old brown dog sitting on a (green:1.3) sofa next to two cats BREAK a <lora:one:1> hen",
            ["old brown dog", "dog", "green sofa", "sofa", "two cats", "cats", "hen"],
        ),
        ("a <lora:one:1> cat, a <lora:two:1> cat", ["cat#1", "cat#2"]),
        ("<lora:one:1> 猫, 犬", ["猫", "犬"]),
        ("a cat = dog <lora:one:1>, x:y, 20", ["cat", "dog"]),
    ],
)
def test_the_words_to_choose_from(prompt: str, offered: list[str]) -> None:
    assert values(read(prompt)) == offered


@pytest.mark.parametrize(
    "prompt", ["a <lora:one:1> black cat and a <lora:two:1> black cat, sofa", TAGS + ", hen house"]
)
def test_every_choice_becomes_the_loras_words(prompt: str) -> None:
    """By the one way of corrections, from a found, an unknown and a styled LoRA."""
    for name in ("one", "two"):
        for before in ("", f"{name}: role=off", f"{name}: words=nonsense"):
            for choice in read(prompt, before).choices:
                change = json.dumps({"lora": name, "key": "words", "value": choice.value, "at": 1})
                found = read(prompt, with_changed_cell(change, before))
                row = next(row for row in found.rows if row.lora == name)
                taken = [one for one in found.choices if name in one.loras]
                assert (row.role, row.typed_words.split("#")[0]) == ("concept", choice.words)
                assert found.problem or [one.value for one in taken] == [choice.value]
                assert row.corrected == ("words",)


def test_taken_words_name_their_lora_and_overlap() -> None:
    found = read("a <lora:one:1> black cat and a <lora:two:1> dog on grass")
    shown = {one.value: (one.loras, one.overlapping, one.concept) for one in found.choices}
    assert shown == {
        "black cat": (("one",), (), 0), "cat": ((), ("one",), None), "dog": (("two",), (), 1), "grass": ((), (), None),
    }  # fmt: skip
    html = table_html(found.rows, found.choices)
    assert 'data-value="black cat" data-loras="one"' in html
    assert 'class="clora-chip clora-part" data-value="cat" data-loras=""' in html
    assert "black cat<small>one</small></button>" in html


def test_words_typed_by_hand_are_among_the_choices() -> None:
    found = read("a photo of a very strange old cat thing here <lora:one:1>", "one: words=strange old cat")
    assert [one.value for one in found.choices if one.loras] == ["strange old cat"]


def test_which_rows_can_be_given_words() -> None:
    html = table_html(
        read("a <lora:a:1> cat, <lora:b:1:words=cat>, <lora:c:1:role=style>, <lora:d:1:role=concept>").rows
    )
    assert re.findall('data-lora="(.)" data-choice="(.*?)"', html) == [
        ("a", "open"), ("b", "fixed"), ("c", "fixed"), ("d", "open"),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ Dynamic Prompts


def test_alternatives_are_told_and_never_an_error() -> None:
    prompt = "a {<lora:one:1> cat|<lora:two:0.5> pig} and a <lora:three:1> {red|blue} dog in __place__"
    found = read(prompt, alternatives=True)
    assert (found.composes, found.problem) == (True, "")
    assert [(row.lora, row.words) for row in found.rows] == [("one", "cat"), ("three", "red dog"), ("two", "")]
    assert [IN_ALTERNATIVE in row.why for row in found.rows] == [True, False, True]
    (note,) = [note for note in found.notes if "Dynamic Prompts" in note]
    assert note.count(".") == 1
    assert "{a|b}, __name__" in note
    wrong = read(prompt, "three: words=cow", alternatives=True)
    assert (wrong.problem, wrong.composes) == ("", False)
    assert len(wrong.rows) == 3
    assert "cow" in wrong.notes[1]
    # A host without such prompts reads the text as it is.
    assert not any("anew" in note for note in read(prompt).notes)


def test_alternatives_inside_a_tag() -> None:
    found = read("a <lora:{one|two}:{0.5|1}> cat and a <lora:three:1> dog", alternatives=True)
    assert [(row.lora, row.weight, row.words) for row in found.rows] == [("one", "0.5", "cat"), ("three", "1", "dog")]
    assert [IN_ALTERNATIVE in row.why for row in found.rows] == [True, False]


def test_a_wildcard_may_hide_the_words() -> None:
    found = read("a <lora:one:1:words=cat> __animal__ and a <lora:two:1> dog", alternatives=True)
    assert found.problem == ""
    assert [row.lora for row in found.rows] == ["one", "two"]
    assert "the text as it stands" in found.notes[0]
    assert not any("anew" in note for note in read("my__lora__name <lora:one:1> cat", alternatives=True).notes)


def test_a_correction_of_place_alone_keeps_its_row() -> None:
    found = report(TAGS, corrections={"one": WordsOverride(place="left")})
    assert (found.rows[0].place, found.rows[0].corrected) == ("left", ("place",))


@pytest.mark.parametrize("given", [{"field": 1}, {"words": 1}, "x"])
def test_long_names_of_corrections_are_cut_whatever_quotes_they_have(given: object) -> None:
    with pytest.raises(CLoRAError) as refused:
        read_corrections({'a"b' * 2000: given})
    assert len(str(refused.value)) < 400
