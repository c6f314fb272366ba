"""The table of concepts as HTML, and what a changed cell does to the corrections."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from clora.errors import CLoRAError
from clora.lora.user_metadata import LoraNotes
from clora.prompt import WordsOverride
from clora.ui.canvas import subjects_json
from clora.ui.concept_table import message_html, table_html
from clora.ui.corrected_prompt import move_into_prompt
from clora.ui.corrections import read_corrections, with_changed_cell
from clora.ui.report import Report, Sources, report

PROMPT = "a <lora:black cat:0.8:1> cat and a <lora:dog:1:words=dog:trigger=sks> dog <lora:ink:1:role=style@dog>"


class Cells(HTMLParser):
    """What of a table can be changed: (LoRA, key) -> value; and every tag that is met."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.values: dict[tuple[str, str], str] = {}
        self.tags: set[str] = set()
        self._select: tuple[str, str] | None = None
        self._option = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        if "data-key" in given:
            key = (str(given["data-lora"]), str(given["data-key"]))
            self.values[key] = str(given.get("value"))
            self._select = key if tag == "select" else None
        self._option = tag == "option" and "selected" in given

    def handle_data(self, data: str) -> None:
        if self._option and self._select:
            self.values[self._select] = data


def test_what_may_be_changed() -> None:
    cells = Cells(table_html(report(PROMPT).rows)).values
    # The tag of the dog says its words and trigger, that of the ink its role: these are no inputs.
    assert cells == {
        ("black cat", "role"): "concept", ("black cat", "words"): "cat", ("black cat", "trigger"): "",
        ("black cat", "place"): "", ("dog", "role"): "concept", ("dog", "place"): "",
        ("black cat", "say"): "", ("dog", "say"): "",
    }  # fmt: skip


def test_the_second_of_two_equal_words_reads_as_it_is_written() -> None:
    rows = report("a <lora:one:1> cat and a <lora:two:1> cat").rows
    assert [row.words for row in rows] == ["cat", "cat (2.)"]
    cells = Cells(table_html(rows)).values
    assert cells["two", "words"] == "cat#2"
    again = report(
        "a <lora:one:1> cat and a <lora:two:1> cat", corrections=read_corrections(f"two: words={cells['two', 'words']}")
    )
    assert [row.words for row in again.rows] == ["cat", "cat (2.)"]


def test_names_and_words_are_text_in_the_page() -> None:
    evil = '"><script>alert(1)</script>'
    read = report('a <lora:x"onfocus="y:1> (cat & "dog") and a <lora:b:1> horse, <lora:<b:1>')
    cells = Cells(table_html(read.rows, read.choices))
    table = {"table", "thead", "tbody", "tr", "th", "td", "input", "select", "option"}
    assert cells.tags <= {*table, "div", "p", "span", "small", "button"}
    assert ('x"onfocus="y', "words") in cells.values
    assert 'data-loras="x&quot;onfocus=&quot;y"' in table_html(read.rows, read.choices)
    assert "<script" not in message_html(Report(False, problem=evil))
    assert "<script" not in message_html(Report(True, notes=(evil,), variants=("", "")))


def test_the_row_of_a_single_lora_is_filled() -> None:
    for prompt in ("a <lora:black cat:1> cat, hat", "a black cat <lora:black cat:1:words=cat>"):
        (row,) = report(prompt).rows
        assert (row.words, row.trigger) == ("cat", "")
        assert 'data-words="cat"' in table_html((row,))
    found = report("<lora:one:1> cat <lora:ink:1:role=style>", corrections={"one": WordsOverride(words="cat")})
    assert [row.words for row in found.rows] == ["cat", ""]
    assert not found.composes
    assert len(found.notes) == 1
    assert report("<lora:one:1>").rows[0].words == ""


def test_without_rows_there_is_no_table() -> None:
    assert table_html(()) == ""


def test_a_place_is_shown_as_it_is_written() -> None:
    corrections = read_corrections("one: place=Left\ntwo: place=10 20% 40 60%")
    rows = report("a <lora:one:1> cat and a <lora:two:1> dog", corrections=corrections).rows
    assert [row.place for row in rows] == ["left", "10 20 40 60"]
    fixed = report("a <lora:one:1:place=left> cat and a <lora:two:1> dog").rows
    assert ("one", "place") not in Cells(table_html(fixed)).values
    wrong = report("a <lora:one:1> cat and a <lora:two:1> dog", corrections=read_corrections("one: place=0 0 0 50"))
    assert "empty or outside the image" in wrong.problem
    cut = report("a <lora:one:1> cat and a <lora:two:1> dog", corrections=read_corrections("one: place=50 0 60 50"))
    assert cut.rows[0].place == "50 0 50 50"


def notes_of(name: str) -> LoraNotes:
    return {"cat": LoraNotes("sks <b>", 0.7), "dog": LoraNotes("brown dog", 1.0)}.get(name, LoraNotes())


@pytest.mark.parametrize(
    ("prompt", "offered"),
    [
        ("a <lora:cat:0.7> cat and a <lora:dog:1> dog", ["sks <b>", "brown dog"]),
        ("a <lora:cat:0.7:trigger=x> cat and a <lora:dog:1> dog", ["", "brown dog"]),
        ("a <lora:cat:0.7:trigger=> cat and a <lora:dog:1> dog", ["", "brown dog"]),
        # What all variants read already would stand there twice.
        ("a <lora:cat:0.7> cat and a <lora:dog:1> Brown  dog", ["sks <b>", ""]),
        ("a <lora:cat:0.7> cat and a <lora:dog:1> brown dogfish", ["sks <b>", "brown dog"]),
        ("a <lora:cat:0.7> cat and a <lora:bird:1> bird", ["sks <b>", ""]),
    ],
)
def test_the_activation_text_is_offered_as_trigger(prompt: str, offered: list[str]) -> None:
    found = report(prompt, sources=Sources(notes_of=notes_of))
    assert [row.offered for row in found.rows] == offered
    assert found.notes == ()
    html = table_html(found.rows)
    assert html.count("clora-take") == sum(bool(one) for one in offered)
    assert "<b>" not in html
    if offered[0]:
        assert 'data-value="sks &lt;b&gt;"' in html
        taken = read_corrections(with_changed_cell(change("trigger", "sks <b>"), ""))
        assert [row.offered for row in report(prompt, corrections=taken, sources=Sources(notes_of=notes_of)).rows] == [
            "",
            offered[1],
        ]


def test_another_weight_than_the_preferred_one_is_noted() -> None:
    found = report("a <lora:cat:1> cat and a <lora:dog:1> dog, <lora:cat:1> cat", sources=Sources(notes_of=notes_of))
    assert found.notes == ('Your notes for the LoRA "cat" recommend the weight 0.7; the prompt has 1.',)
    assert report("a <lora:cat:1> cat and a <lora:dog:1> dog").notes == ()


@pytest.mark.parametrize(
    ("row", "tag"),
    [
        (WordsOverride(words="ball#2", trigger="sks"), "<lora:two:1:words=ball:trigger=sks:nth=2>"),
        (WordsOverride(words="it"), "<lora:two:1:words=it>"),
        (WordsOverride(role="style@ball#1"), "<lora:two:1:role=style@ball:nth=1>"),
        (WordsOverride(words="ball #2", place="left"), "<lora:two:1:words=ball:place=left:nth=2>"),
    ],
)
def test_written_tags_have_no_mark_of_a_comment(row: WordsOverride, tag: str) -> None:
    """WebUIs take what follows # in a prompt for a comment."""
    prompt = "a <lora:one:1> ball and a <lora:three:1> dog, a ball, <lora:two:1> it"
    text, rest = move_into_prompt(prompt, {"two": row, "away": row})
    assert text == prompt.replace("<lora:two:1>", tag)
    assert rest == {"away": row}
    by_tag, by_row = report(text), report(prompt, corrections={"two": row})
    plain = [(one.lora, one.role, one.words, one.trigger, one.place) for one in by_tag.rows]
    assert plain == [(one.lora, one.role, one.words, one.trigger, one.place) for one in by_row.rows]
    assert not by_tag.problem


def change(key: str, value: str, lora: str = "cat") -> str:
    return json.dumps({"lora": lora, "key": key, "value": value, "at": 1})


@pytest.mark.parametrize(
    ("cell", "before", "after"),
    [
        (change("words", "a cat"), "", "cat: words=a cat"),
        (change("trigger", "sks"), "cat: words=cat\ndog: role=style", "cat: words=cat, trigger=sks\ndog: role=style"),
        (change("words", " "), "cat: words=cat, trigger=sks", "cat: trigger=sks"),
        (change("words", ""), "cat: words=cat", ""),
        (change("place", "10 20 40 60"), "cat: words=cat", "cat: words=cat, place=10 20 40 60"),
        (change("role", "background", lora="dog"), '{"cat": {"words": "x"}}', "cat: words=x\ndog: role=background"),
    ],
)
def test_a_changed_cell(cell: str, before: str, after: str) -> None:
    assert with_changed_cell(cell, before) == after
    assert with_changed_cell(cell, after) == after


@pytest.mark.parametrize("cell", ["", "[]", "3", '{"lora": "cat", "key": "words"}', change("weight", "2")])
def test_a_cell_that_cannot_be_read(cell: str) -> None:
    with pytest.raises(CLoRAError, match="cell"):
        with_changed_cell(cell, "")


def test_corrections_that_cannot_be_read_are_kept() -> None:
    with pytest.raises(CLoRAError, match="cat words"):
        with_changed_cell(change("words", "cat"), "cat words")


@pytest.mark.parametrize(
    ("cell", "before", "after"),
    [
        (change("words", "cat"), "cat: role=off", "cat: words=cat"),
        (change("words", "cat"), "cat: trigger=sks, role=style, place=left", "cat: words=cat, trigger=sks, place=left"),
        (change("words", ""), "cat: role=off", "cat: role=off"),
        (change("role", "off"), "cat: words=cat", "cat: words=cat, role=off"),
    ],
)
def test_chosen_words_make_a_concept(cell: str, before: str, after: str) -> None:
    assert with_changed_cell(cell, before) == after


def test_warnings_are_shown_beside_the_note_of_an_inactive_prompt() -> None:
    read = report("a <lora:cat:1> cat", "blurry <lora:dog:1>")
    assert any("inactive" in note for note in read.notes)
    assert any("negative prompt are ignored" in note for note in read.notes)
    assert len(set(read.notes)) == len(read.notes)


def test_own_words_are_a_cell_and_a_subject_without_a_lora_has_a_row() -> None:
    def check(name: str) -> None:
        if name not in ("cat", "dog"):
            raise CLoRAError(f'There is no LoRA "{name}".')

    prompt = "a <lora:cat:1:say=red scarf> cat, a <lora:dog:1> dog and a <clora:hat:place=left> hat"
    rows = read_corrections("dog: say=(big:1.2), smiling\nhat: say=green")
    found = report(prompt, corrections=rows, sources=Sources(check=check, notes_of=notes_of))
    assert not found.problem
    assert [(row.lora, row.say, row.why) for row in found.rows] == [
        ("cat", "red scarf", "from the text after its tag"),
        ("dog", "(big:1.2), smiling", "from the text after its tag"),
        ("hat", "green", "no LoRA"),
    ]
    assert [row.fixed for row in found.rows] == [("say",), (), ("words", "role", "place")]
    assert (found.rows[2].weight, found.rows[2].concept, found.rows[2].corrected) == ("", 2, ("say",))
    cells = Cells(table_html(found.rows)).values
    assert cells["dog", "say"] == "(big:1.2), smiling"
    assert [key for name, key in cells if name == "hat"] == ["trigger", "say"]
    assert ("cat", "say") not in cells
    assert found.as_json()["rows"][2]["without_lora"]


@pytest.mark.parametrize("say", ["red scarf, smiling", "(red scarf:1.2), [a:b:0.5] x", "x=y"])
def test_own_words_move_into_the_prompt(say: str) -> None:
    prompt = "a <lora:one:1> ball and a <clora:dog:place=left> dog"
    rows = {"one": WordsOverride(say=say), "dog": WordsOverride(say=say)}
    text, rest = move_into_prompt(prompt, rows)
    assert text == f"a <lora:one:1:say={say}> ball and a <clora:dog:place=left:say={say}> dog"
    assert rest == {}
    assert report(text).variants == report(prompt, corrections=rows).variants
    with pytest.raises(CLoRAError, match="not allowed in a tag"):
        move_into_prompt(prompt, {"one": WordsOverride(say="a: b")})


def test_the_canvas_gets_each_subject_once() -> None:
    prompt = "<lora:ann:1><lora:hat:1:place=left> girl, a <clora:bird> bird, <lora:cat:1> cat, <lora:inkstyle:1>"
    subjects = json.loads(subjects_json(report(prompt, corrections=read_corrections("cat: place=0 0 0 9")).rows))
    found = [tuple(one[name] for name in ("lora", "words", "place", "fixed", "without_lora")) for one in subjects]
    assert found == [
        ("hat", "girl", "left", True, False),  # of a subject's LoRAs the one with a place
        ("bird", "bird", "", False, True),
        ("cat", "cat", "", False, False),
    ]
    twice = report("a <lora:cat:1> black cat and a <lora:cat:1> gray cat").rows
    assert [one["fixed"] for one in json.loads(subjects_json(twice))] == [True, True]
