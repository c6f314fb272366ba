"""The panel in Chromium, in both versions of gradio: a row, then its words; wrong cells; by the keyboard."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ui.panel_browser import PROMPT, PanelTab

CORRECTIONS = "#txt2img_clora_corrections textarea"


def chip(value: str) -> str:
    return f'.clora-chip[data-value="{value}"]'


def test_words_are_assigned_by_two_clicks_and_taken_back(tab: PanelTab) -> None:
    assert not tab.all(".clora-chip:enabled")
    assert "Click a row" in tab.all(".clora-hint-none")[0].text
    tab.click(".clora-row[data-lora=dog]")
    assert tab.chosen() == ["dog"]
    assert tab.all(".clora-hint-open")[0].is_displayed()
    tab.click(chip("red sofa"))
    tab.wait(lambda: tab.corrections() == "dog: words=red sofa", "the correction")
    tab.wait(lambda: tab.all("#txt2img_clora_table tr[data-words='red sofa']"), "the new words")
    # The row stays chosen in the new table, and the words name their LoRA.
    tab.wait(lambda: tab.chosen() == ["red sofa"], "the marked words")
    assert tab.text(f"{chip('red sofa')} small") == "dog"
    assert "your correction" in tab.text("tr[data-lora=dog] .clora-why")
    tab.click(chip("red sofa"))
    tab.wait(lambda: tab.corrections() == "", "no correction")
    tab.wait(lambda: tab.chosen() == ["dog"], "CLoRA's own words")


def test_words_that_clora_found_are_taken_back_by_the_role(tab: PanelTab) -> None:
    tab.click("tr[data-lora=cat] td:nth-child(2)")  # anywhere in the row
    tab.wait(lambda: tab.chosen() == ["black cat"], "the cat's words")
    tab.click(chip("black cat"))
    tab.wait(lambda: tab.corrections() == "cat: role=off", "the role")
    tab.wait(lambda: tab.all("tr[data-lora=cat][data-words='']"), "no words")
    assert tab.chosen() == []
    tab.click(chip("cat"))
    tab.wait(lambda: tab.corrections() == "cat: words=cat", "words instead of the role")
    tab.wait(lambda: tab.chosen() == ["cat"], "the chosen words")


def test_choosing_a_row_again_ends_it(tab: PanelTab) -> None:
    tab.click(".clora-row[data-lora=dog]")
    assert tab.run("return document.querySelector('.clora-row[data-lora=dog]').ariaPressed") == "true"
    tab.click(".clora-row[data-lora=dog]")
    assert tab.chosen() == []
    assert not tab.all(".clora-chip:enabled")


def test_a_tag_that_names_its_words_says_so(tab: PanelTab) -> None:
    tab.read(PROMPT.replace("dog:1", "dog:1:words=dog"))
    tab.wait(lambda: tab.all("tr[data-lora=dog][data-choice=fixed]"), "the row")
    tab.click(".clora-row[data-lora=dog]")
    assert tab.all(".clora-hint-fixed")[0].is_displayed()
    assert not tab.all(".clora-chip:enabled")
    assert tab.chosen() == ["dog"]


def test_by_the_keyboard(tab: PanelTab) -> None:
    from selenium.webdriver.common.keys import Keys

    tab.run("document.querySelector('#txt2img_clora_refresh').focus()")
    tab.tab_to(".clora-row[data-lora=dog]")
    tab.keys(Keys.ENTER)
    assert tab.chosen() == ["dog"]
    tab.tab_to(chip("sofa"))
    tab.keys(Keys.SPACE)
    tab.wait(lambda: tab.corrections() == "dog: words=sofa", "the correction")
    tab.wait(lambda: tab.chosen() == ["sofa"], "the chosen words")
    focused = "return document.activeElement.dataset.value"
    tab.wait(lambda: tab.run(focused) == "sofa", "the focus in the new table")
    tab.keys(Keys.ENTER)
    tab.wait(lambda: tab.corrections() == "", "no correction")


def test_every_row_stays_after_a_wrong_cell(tab: PanelTab) -> None:
    from selenium.webdriver.common.keys import Keys

    cell = ".clora-table [data-lora=dog][data-key=words]"
    tab.type(cell, "cow")
    tab.keys(Keys.TAB)
    tab.wait(lambda: tab.all(f"{cell}[aria-invalid=true]"), "the wrong cell")
    assert tab.run("return document.querySelector(arguments[0]).value", cell) == "cow"
    assert len(tab.all(".clora-table tbody tr")) == 2
    assert tab.all("tr[data-lora=cat][data-words='black cat']")
    assert '"cow"' in tab.text("tr[data-lora=dog] .clora-problem")
    # The words to choose from mend it.
    tab.click(".clora-row[data-lora=dog]")
    tab.click(chip("sofa"))
    tab.wait(lambda: tab.all("tr[data-lora=dog][data-words=sofa]"), "the right words")
    assert not tab.all("[aria-invalid=true]")


def test_an_emptied_cell_shows_cloras_choice_again(tab: PanelTab) -> None:
    from selenium.webdriver.common.keys import Keys

    cell = ".clora-table [data-lora=dog][data-key=words]"
    tab.type(cell, "")
    tab.keys(Keys.TAB)
    tab.wait(lambda: tab.run("return document.querySelector(arguments[0]).value", cell) == "dog", "the words")
    assert tab.corrections() == ""


def test_corrections_typed_by_hand_are_read_to_the_end(tab: PanelTab) -> None:
    """gradio 3 drops the keys that are typed while it still answers the first one."""
    tab.type(CORRECTIONS, "dog: words=red sofa, place=left")
    tab.wait(lambda: tab.all("tr[data-lora=dog][data-words='red sofa']"), "the words")
    tab.wait(lambda: "cannot be read" not in tab.text("#txt2img_clora_message"), "no message about a half line")
    place = ".clora-table [data-lora=dog][data-key=place]"
    tab.wait(lambda: tab.run("return document.querySelector(arguments[0]).value", place) == "left", "the place")


def test_changes_in_quick_succession_all_count(tab: PanelTab) -> None:
    script = """
    for (const [lora, value] of [["cat", "left"], ["dog", "right"]]) {
        const cell = document.querySelector(`.clora-table [data-lora=${lora}][data-key=place]`);
        cell.value = value;
        cell.dispatchEvent(new Event("change", {bubbles: true}));
    }"""
    tab.run(script)
    tab.wait(lambda: tab.corrections() == "cat: place=left\ndog: place=right", "both corrections")
    values = "return [...document.querySelectorAll('.clora-table [data-key=place]')].map((one) => one.value)"
    tab.wait(lambda: tab.run(values) == ["left", "right"], "both places in the table")


def test_a_style_is_read_with_the_prompt(tab: PanelTab) -> None:
    tab.read("a <lora:cat:1> cat # a <lora:nobody:1> hen")
    tab.wait(lambda: len(tab.all(".clora-table tbody tr")) == 1, "the cat alone")
    tab.click("#txt2img_styles input")

    def styles() -> list[Any]:
        return [one for one in tab.all("#txt2img_styles ul li, ul.options li") if one.is_displayed()]

    tab.wait(styles, "the styles")[0].click()
    tab.click("#txt2img_clora_refresh")
    tab.wait(lambda: tab.all("tr[data-lora=dog][data-words=dog]"), "the style's LoRA")
    assert "2 concepts" in tab.text("#txt2img_clora_cost")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_can_be_read_in_both_themes(panel: tuple[Any, str], theme: str) -> None:
    """The contrast of every text of table and words, as WCAG 2.1 computes it, is 4.5 or more."""
    tab = PanelTab(*panel, theme=theme)
    tab.read(PROMPT.replace("cat:1", "cat:1:role=stlye"))
    tab.click(".clora-row[data-lora=dog]")
    low = tab.run(CONTRASTS)
    assert low == []


CONTRASTS = """
const channels = (text) => { const c = text.match(/[0-9.]+/g).map(Number); return c.length < 4 ? [...c, 1] : c; };
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
function background(element) {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(channels(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
}
const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => sum + part * linear(rgb[i] / 255), 0);
const found = [];
const parts = ".clora-row, .clora-why, .clora-table td, .clora-table th, .clora-choices p";
const chips = ".clora-chip:enabled, .clora-chip small";
for (const one of document.querySelectorAll(`${parts}, ${chips}`)) {
    if (!one.offsetParent || !one.textContent.trim()) continue;
    const below = background(one), colour = channels(getComputedStyle(one).color);
    let alpha = colour[3];
    for (let up = one; up && !up.matches("#txt2img_clora_table"); up = up.parentElement) {
        alpha *= getComputedStyle(up).opacity;
    }
    const text = over([...colour.slice(0, 3), alpha], below);
    const [a, b] = [light(text), light(below)].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) found.push([one.className, one.textContent.slice(0, 30), contrast]);
}
return found;
"""
