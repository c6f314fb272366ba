"""The canvas of the panel in Chromium, in both versions of gradio."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from clora.pictures import concept_color
from clora.prompt.painted_text import painted_text, read_painted_text
from clora.ui.corrections import read_corrections
from tests.ui.canvas_browser import Canvas
from tests.ui.panel_browser import PROMPT, PanelTab

_SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'><rect width='8' height='8'/></svg>"
PICTURE = f"data:image/svg+xml,{_SVG}"


@pytest.fixture
def canvas(tab: PanelTab) -> Canvas:
    return Canvas(tab)


def said(tab: PanelTab, lines: str) -> None:
    try:
        tab.wait(lambda: tab.corrections() == lines, "the correction", 20)
    except AssertionError:
        shown = tab.all(".clora-canvas-place")[0].text
        raise AssertionError(f"{tab.corrections()!r} instead of {lines!r}; the canvas shows {shown}") from None


def painted(tab: PanelTab, lora: str) -> Tensor:
    """The mask in the corrections, once there is one."""
    tab.wait(lambda: f"{lora}: place=painted" in tab.corrections(), "the painted place", 20)
    row = read_corrections(tab.corrections())[lora].painted
    assert row is not None
    return row.mask


def iou(one: Tensor, two: Tensor) -> float:
    return float((one * two).sum() / (one + two).clamp(max=1).sum())


def test_a_box_is_drawn_moved_and_resized(tab: PanelTab, canvas: Canvas) -> None:
    assert canvas.place() == "black cat (cat): anywhere"
    canvas.drag((0.1, 0.2), (0.3, 0.4), (0.5, 0.8))
    said(tab, "cat: place=10 20 40 60")
    cell = "return document.querySelector('.clora-table [data-lora=cat][data-key=place]').value"
    tab.wait(lambda: tab.run(cell) == "10 20 40 60", "the place in the table")
    canvas.drag((0.3, 0.5), (0.4, 0.5), (0.5, 0.4))
    said(tab, "cat: place=30 10 40 60")
    canvas.drag((0.7, 0.7), (0.8, 0.8), (0.9, 0.9))  # the lower right corner
    said(tab, "cat: place=30 10 60 80")
    canvas.drag((0.3, 0.5), (0.25, 0.5), (0.2, 0.9))  # the left edge
    said(tab, "cat: place=20 10 70 80")
    canvas.drag((0.5, 0.5), (0.8, 0.8), (0.95, 0.95))  # not out of the picture
    said(tab, "cat: place=30 20 70 80")
    assert canvas.place() == "black cat (cat): 30 20 70 80"


def test_each_subject_has_a_box_and_a_click_chooses_it(tab: PanelTab, canvas: Canvas) -> None:
    canvas.drag((0.1, 0.1), (0.2, 0.5), (0.4, 0.9))
    said(tab, "cat: place=10 10 30 80")
    canvas.choose("dog")
    canvas.drag((0.6, 0.5), (0.8, 0.8), (0.9, 0.9))
    said(tab, "cat: place=10 10 30 80\ndog: place=60 50 30 40")
    canvas.drag((0.2, 0.3), (0.3, 0.3), (0.4, 0.3))  # the cat's box is under the pointer
    said(tab, "cat: place=30 10 30 80\ndog: place=60 50 30 40")
    assert canvas.place().startswith("black cat (cat)")


def test_undo_and_clear(tab: PanelTab, canvas: Canvas) -> None:
    undo, clear = (f".clora-canvas [data-do={name}]" for name in ("undo", "clear"))
    assert not tab.all(f"{undo}:enabled, {clear}:enabled")
    canvas.drag((0.1, 0.1), (0.3, 0.4), (0.5, 0.5))
    said(tab, "cat: place=10 10 40 40")
    canvas.drag((0.3, 0.3), (0.4, 0.3), (0.5, 0.3))
    said(tab, "cat: place=30 10 40 40")
    tab.click(clear)
    said(tab, "")
    assert canvas.place() == "black cat (cat): anywhere"
    tab.click(undo)
    said(tab, "cat: place=30 10 40 40")
    tab.click(undo)
    said(tab, "cat: place=10 10 40 40")
    tab.click(undo)
    said(tab, "")
    assert not tab.all(f"{undo}:enabled")


def test_a_click_draws_nothing(tab: PanelTab, canvas: Canvas) -> None:
    canvas.drag((0.4, 0.4))
    assert canvas.place() == "black cat (cat): anywhere"
    assert not tab.all(".clora-canvas [data-do=undo]:enabled")
    canvas.drag((0.1, 0.1), (0.3, 0.4), (0.5, 0.5))
    said(tab, "cat: place=10 10 40 40")
    canvas.drag((0.3, 0.3))
    assert canvas.place() == "black cat (cat): 10 10 40 40"


def test_a_mask_is_painted_erased_and_restored(tab: PanelTab, canvas: Canvas) -> None:
    canvas.choose("dog")
    canvas.take("paint")
    canvas.drag((0.2, 0.5), (0.5, 0.5), (0.8, 0.5))
    first = painted(tab, "dog")
    assert tuple(first.shape) == (128, 128)
    wanted = torch.zeros(128, 128)
    wanted[58:70, 20:108] = 1  # a brush of a tenth of the picture
    assert iou(first, wanted) > 0.9
    cell = "return document.querySelector('.clora-table [data-lora=dog][data-key=place]').value"
    tab.wait(lambda: tab.run(cell) == "painted", "the place in the table")
    assert canvas.place() == "dog (dog): painted"
    canvas.take("erase")
    before = tab.corrections()
    canvas.drag((0.5, 0.3), (0.5, 0.5), (0.5, 0.7))
    tab.wait(lambda: tab.corrections() != before, "the erased mask")
    second = painted(tab, "dog")
    assert second[:, :56].any()
    assert second[:, 72:].any()
    assert not second[:, 60:68].any()
    tab.click(".clora-canvas [data-do=undo]")
    tab.wait(lambda: tab.corrections() == before, "the mask before")
    # What stands in the corrections is shown again on a new page.
    canvas.tab.run("location.reload()")
    again = PanelTab(tab.driver, tab.run("return location.origin"))
    again.read(PROMPT)
    again.type("#txt2img_clora_corrections textarea", before)
    fresh = Canvas(again)
    fresh.choose("dog")
    again.wait(lambda: fresh.place() == "dog (dog): painted", "the mask")
    colour = concept_color(1)
    share = again.wait(lambda: fresh.share(colour), "the mask on the canvas")
    assert share == pytest.approx(float(first.mean()), abs=0.03)


def test_painting_starts_from_a_box_and_a_mask_can_be_moved(tab: PanelTab, canvas: Canvas) -> None:
    canvas.drag((0.1, 0.1), (0.3, 0.4), (0.5, 0.5))
    said(tab, "cat: place=10 10 40 40")
    canvas.take("paint")
    canvas.drag((0.45, 0.3), (0.6, 0.3), (0.7, 0.3))
    mask = painted(tab, "cat")
    assert mask[13:64, 13:64].all()
    assert mask[38, 80]
    canvas.take("box")
    before = tab.corrections()
    canvas.drag((0.3, 0.3), (0.3, 0.5), (0.3, 0.7))
    tab.wait(lambda: tab.corrections() != before, "the moved mask")
    assert iou(painted(tab, "cat"), mask.roll(51, dims=0)) > 0.95


def test_everything_erased_is_no_place(tab: PanelTab, canvas: Canvas) -> None:
    canvas.drag((0.4, 0.4), (0.45, 0.45), (0.5, 0.5))
    said(tab, "cat: place=40 40 10 10")
    canvas.take("erase")
    tab.run("const b = document.querySelector('.clora-canvas-brush input'); b.value = 40; "
            "b.dispatchEvent(new Event('input', {bubbles: true}))")  # fmt: skip
    canvas.drag((0.4, 0.45), (0.45, 0.45), (0.5, 0.45))
    said(tab, "")
    assert canvas.place() == "black cat (cat): anywhere"


def test_with_a_finger(tab: PanelTab, canvas: Canvas) -> None:
    assert tab.run("return getComputedStyle(document.querySelector('.clora-canvas canvas')).touchAction") == "none"
    canvas.touch([(0.1, 0.2), (0.3, 0.5), (0.5, 0.8)])
    said(tab, "cat: place=10 20 40 60")
    canvas.touch([(0.53, 0.83), (0.6, 0.9), (0.7, 0.9)])  # beside the corner: a finger needs more room
    said(tab, "cat: place=10 20 57 67")
    canvas.touch([(0.3, 0.5), (0.2, 0.2)], ends="pointercancel")  # the browser took the finger for something else
    assert canvas.place() == "black cat (cat): 10 20 57 67"


def test_by_the_keyboard(tab: PanelTab, canvas: Canvas) -> None:
    from selenium.webdriver.common.keys import Keys

    tab.run("document.querySelector('.clora-canvas summary').focus()")
    tab.tab_to(".clora-canvas canvas")
    tab.keys(Keys.ARROW_RIGHT)
    said(tab, "cat: place=25 25 50 50")
    tab.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    said(tab, "cat: place=29 23 50 50")
    canvas.chord(Keys.SHIFT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    said(tab, "cat: place=29 23 52 52")
    canvas.chord(Keys.CONTROL, "z")
    said(tab, "cat: place=29 23 50 50")
    tab.keys(Keys.DELETE)
    said(tab, "")
    canvas.take("paint")
    tab.tab_to(".clora-canvas canvas")
    tab.keys(Keys.SPACE)
    canvas.chord(Keys.SHIFT, *[Keys.ARROW_RIGHT] * 5)
    mask = painted(tab, "cat")
    tab.wait(lambda: painted(tab, "cat")[64, 76], "the painted way")
    assert mask[64, 64]


def test_generate_waits_for_what_was_drawn(tab: PanelTab, canvas: Canvas) -> None:
    script = """
    window.sent = [];
    const box = document.querySelector("#txt2img_clora_corrections textarea");
    document.querySelector("#txt2img_generate").addEventListener("click", () => window.sent.push(box.value));
    """
    tab.run(script)
    canvas.touch([(0.1, 0.2), (0.3, 0.5), (0.5, 0.8)])
    tab.run("document.querySelector('#txt2img_generate').click()")
    tab.wait(lambda: tab.run("return window.sent"), "the job")
    assert tab.run("return window.sent") == ["cat: place=10 20 40 60"]


def test_a_place_in_the_tag_is_shown_and_stays(tab: PanelTab) -> None:
    tab.read(PROMPT.replace("dog:1", "dog:1:place=right"))
    canvas = Canvas(tab)
    tab.wait(lambda: tab.all(".clora-canvas [data-lora=dog]"), "the dog")
    canvas.choose("dog")
    tab.wait(lambda: canvas.place() == "dog (dog): 50 0 50 100", "its place")
    assert tab.all(".clora-canvas-fixed")[0].is_displayed()
    canvas.drag((0.7, 0.5), (0.5, 0.5), (0.3, 0.5))
    assert canvas.place() == "dog (dog): 50 0 50 100"
    assert tab.corrections() == ""


def test_the_canvas_has_the_pictures_shape(tab: PanelTab, canvas: Canvas) -> None:
    tab.type("#txt2img_width input[type=number]", "768")
    tab.type("#txt2img_height input[type=number]", "1024")
    tab.wait(lambda: abs(canvas.element.size["width"] / canvas.element.size["height"] - 0.75) < 0.02, "the shape")
    canvas.take("paint")
    canvas.drag((0.5, 0.2), (0.5, 0.5), (0.5, 0.8))
    assert tuple(painted(tab, "cat").shape) == (128, 96)


def test_the_last_picture_and_its_masks_go_underneath(tab: PanelTab, canvas: Canvas) -> None:
    box = ".clora-canvas-last input"
    assert not tab.all(box)[0].is_displayed()
    mask = torch.zeros(64, 64)
    mask[16:48, 8:24] = 1
    masks = f"cat: place={painted_text(mask)}\\ndog: place={painted_text(mask.flip(1))}"
    about = {"index_of_first_image": 0, "infotexts": ["Steps: 1, CLoRA: on", f'Steps: 1, CLoRA masks: "{masks}"']}
    script = """
    const [picture, about] = arguments, gallery = document.createElement("div"), info = document.createElement("div");
    gallery.id = "txt2img_gallery";
    gallery.innerHTML = '<button class="thumbnail-item"><img></button>'.repeat(2);
    gallery.querySelector("img").src = picture;
    document.querySelector("#generation_info_txt2img").remove();
    info.id = "generation_info_txt2img";
    info.append(document.createElement("textarea"));
    info.firstChild.value = JSON.stringify(about);
    document.body.append(info, gallery);
    """
    tab.run(script, PICTURE, about)
    tab.wait(lambda: tab.all(box)[0].is_displayed(), "the offer")
    tab.click(box)
    dark = "return document.querySelector('.clora-canvas canvas').getContext('2d').getImageData(250, 10, 1, 1).data[3]"
    tab.wait(lambda: tab.run(dark) == 255, "the picture")
    assert tab.corrections() == ""  # nothing was drawn yet
    assert canvas.place() == "black cat (cat): anywhere"
    canvas.take("paint")
    canvas.drag((0.3, 0.5), (0.5, 0.5), (0.6, 0.5))
    found = painted(tab, "cat")
    assert found[34:94, 18:46].all(), "it goes on from the mask"
    assert found[64, 76]
    assert not found[:30].any()
    tab.click(box)
    tab.wait(lambda: tab.run(dark) != 255, "no picture")


def test_two_tabs_do_not_see_each_others_drawings(panel: tuple[Any, str], tab: PanelTab, canvas: Canvas) -> None:
    canvas.drag((0.1, 0.2), (0.3, 0.4), (0.5, 0.8))
    said(tab, "cat: place=10 20 40 60")
    first = tab.driver.current_window_handle
    tab.driver.switch_to.new_window("tab")
    try:
        other = PanelTab(*panel)
        other.read(PROMPT)
        assert Canvas(other).place() == "black cat (cat): anywhere"
        assert other.corrections() == ""
    finally:
        tab.driver.close()
        tab.driver.switch_to.window(first)
    assert tab.corrections() == "cat: place=10 20 40 60"


def test_the_script_writes_masks_as_python_does(tab: PanelTab) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3), (64, 64), (96, 128), (1, 7)]
    masks = [(torch.rand(shape, generator=generator) > level).float() for shape in shapes for level in (0.2, 0.9)]
    masks += [torch.ones(8, 8), torch.eye(128)]
    texts = [painted_text(mask) for mask in masks]
    script = "return arguments[0].map((text) => window.CLoRA.painted.write(window.CLoRA.painted.read(text)))"
    assert tab.run(script, texts) == texts
    assert all(torch.equal(read_painted_text(text), mask) for text, mask in zip(texts, masks, strict=True))
    wrong = ["left", "painted", "painted 8x8 A", "painted 8x8 !!"]
    assert tab.run("return arguments[0].map((text) => window.CLoRA.painted.read(text))", wrong) == [None] * 4


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_narrow_window_and_can_be_read(panel: tuple[Any, str], theme: str) -> None:
    tab = PanelTab(*panel, theme=theme, width=420)
    tab.read(PROMPT)
    canvas = Canvas(tab)
    canvas.touch([(0.1, 0.2), (0.3, 0.5), (0.5, 0.8)])
    said(tab, "cat: place=10 20 40 60")
    assert tab.overflow() <= 0
    assert 300 < canvas.element.size["width"] <= 420
    tools = [one.rect for one in tab.all(".clora-canvas button, .clora-canvas summary") if one.is_displayed()]
    assert all(one["x"] >= 0 and one["x"] + one["width"] <= 420 for one in tools)
    assert all(one["height"] >= 24 for one in tools)
