"""The extension's panel in a real WebUI's page, driven in headless Chromium (see test_webui.py for the variables)."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.hosts.webui_server import Server

selenium = pytest.importorskip("selenium", reason="selenium is not installed")

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,1600",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


_UNDERNEATH = """
const canvas = document.querySelector(".clora-canvas canvas"), colours = new Set();
const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
for (let i = 0; i < data.length; i += 404) colours.add(`${data[i] >> 4} ${data[i + 1] >> 4} ${data[i + 2] >> 4}`);
return colours.size;
"""
"""How many colours the canvas has."""


class Page:
    """The txt2img tab in a browser."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        driver.get(url)
        self.wait(lambda: self.all("#txt2img_clora .label-wrap"), "the panel")
        time.sleep(2)  # the WebUI's own scripts move things while they load

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        until = time.time() + seconds
        while time.time() < until:
            found = condition()
            if found:
                return found
            time.sleep(0.2)
        pytest.fail(f"{what} did not appear")

    def text(self, selector: str) -> str:
        return " ".join(str(element.text) for element in self.all(selector))

    def write(self, selector: str, text: str) -> None:
        box = self.all(selector)[0]
        script = (
            "const set = Object.getOwnPropertyDescriptor(arguments[0].constructor.prototype, 'value').set;"
            "set.call(arguments[0], arguments[1]);"
            "for (const name of ['input', 'change', 'blur'])"
            " arguments[0].dispatchEvent(new Event(name, {bubbles: true}));"
        )
        self.driver.execute_script(script, box, text)

    def value(self, selector: str) -> str:
        return str(self.driver.execute_script("return document.querySelector(arguments[0]).value", selector))

    def click(self, selector: str) -> None:
        self.driver.execute_script("document.querySelector(arguments[0]).click()", selector)

    def open_panel(self) -> None:
        """Open the panel, which ticks it, and ask for a small picture."""
        if not self.enabled():
            self.click("#txt2img_clora .label-wrap")
        self.wait(self.enabled, "the tick")
        # Some hosts begin with pictures that take minutes and gigabytes on a CPU.
        for name, value in (("steps", "1"), ("width", "256"), ("height", "256")):
            self.write(f"#txt2img_{name} input[type=number]", value)

    def enabled(self) -> bool:
        script = (
            "return [...document.querySelectorAll('#txt2img_clora-checkbox input, #txt2img_clora-visible-checkbox')]"
        )
        return any(box.is_selected() for box in self.driver.execute_script(script))


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver

    browser, service = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or service is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in _FLAGS:
        options.add_argument(flag)
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    yield found
    found.quit()


@pytest.fixture
def page(server: Server, driver: Any) -> Page:
    return Page(driver, server.url)


def test_reading_a_prompt(page: Page, prompt: str) -> None:
    page.open_panel()
    page.write("#txt2img_prompt textarea", prompt)
    page.click("#txt2img_clora_refresh")
    page.wait(lambda: "2 concepts" in page.text("#txt2img_clora_cost"), "the reading")
    assert len(page.all("#txt2img_clora_table tbody tr")) == 2
    name = re.findall("<lora:([^:>]+)", prompt)[1]
    page.write("#txt2img_clora_corrections textarea", f"{name}: words=no such words")
    page.wait(lambda: "no such words" in page.text("#txt2img_clora_message .clora-problem"), "the problem")


def test_a_row_shows_its_words(page: Page, prompt: str) -> None:
    page.open_panel()
    page.write("#txt2img_prompt textarea", prompt)
    page.click("#txt2img_clora_refresh")
    page.wait(lambda: page.all("#txt2img_clora_table tbody tr"), "the table")
    page.click("#txt2img_clora_table tbody tr:last-child")
    script = (
        "const box = document.querySelector('#txt2img_prompt textarea');"
        "return [box.selectionStart, box.value.slice(box.selectionStart, box.selectionEnd)]"
    )
    start, selected = page.driver.execute_script(script)
    words = page.all("#txt2img_clora_table tbody tr:last-child")[0].get_attribute("data-words")
    assert selected == re.sub(r" \(\d+\.\)$", "", words)
    assert start > prompt.rindex("<lora:")


def test_words_by_two_clicks(page: Page, prompt: str) -> None:
    page.open_panel()
    page.write("#txt2img_prompt textarea", f"{prompt} in a garden")
    page.click("#txt2img_clora_refresh")
    name = re.findall("<lora:([^:>]+)", prompt)[1]
    row, garden = f'.clora-row[data-lora="{name}"]', ".clora-chip[data-value=garden]"
    page.wait(lambda: page.all(garden), "the words")
    page.click(row)
    page.click(garden)
    corrections = "#txt2img_clora_corrections textarea"
    page.wait(lambda: page.value(corrections) == f"{name}: words=garden", "the correction")
    page.wait(lambda: page.all("#txt2img_clora_table tr[data-words=garden]"), "the corrected table")
    page.wait(lambda: page.all(f"{garden}[aria-pressed=true]"), "the marked words")
    page.click(garden)
    page.wait(lambda: page.value(corrections) == "", "no correction")


def test_a_cell_of_the_table_is_a_correction(page: Page, prompt: str) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open_panel()
    page.write("#txt2img_prompt textarea", prompt)
    page.click("#txt2img_clora_refresh")
    cells = "#txt2img_clora_table tbody tr:last-child [data-key]"
    page.wait(lambda: len(page.all(cells)) == 5, "the cells")
    name, corrections = re.findall("<lora:([^:>]+)", prompt)[1], "#txt2img_clora_corrections textarea"

    def type_words(text: str) -> None:
        box = page.all(f"{cells}[data-key=words]")[0]
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text or Keys.BACKSPACE, Keys.TAB)

    page.write("#txt2img_prompt textarea", f"{prompt} in a garden")
    type_words("garden")
    page.wait(lambda: page.value(corrections) == f"{name}: words=garden", "the correction")
    page.wait(lambda: page.all("#txt2img_clora_table tr[data-words=garden]"), "the corrected table")
    # The answer puts a new table in place; the keyboard goes on in the cell after the one that was left.
    focused = "return document.activeElement.dataset.key"
    page.wait(lambda: page.driver.execute_script(focused) == "trigger", "the focus")
    type_words("no such words")
    page.wait(lambda: "no such words" in page.text("#txt2img_clora_message .clora-problem"), "the problem")
    assert page.value(f"{cells}[data-key=words]") == "no such words"
    type_words("")
    page.wait(lambda: page.value(corrections) == "", "no correction")
    page.wait(lambda: "2 concepts" in page.text("#txt2img_clora_cost"), "the reading")


def test_generate_waits_for_a_cell_that_was_just_changed(page: Page, prompt: str) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open_panel()
    page.write("#txt2img_prompt textarea", prompt)
    page.click("#txt2img_clora_refresh")
    cell = "#txt2img_clora_table tbody tr:last-child [data-key=place]"
    page.wait(lambda: page.all(cell), "the cell")
    page.all(cell)[0].send_keys("left")
    page.all(cell)[0].send_keys(Keys.CONTROL, Keys.ENTER)
    name = re.findall("<lora:([^:>]+)", prompt)[1]
    wanted = f"CLoRA corrections: {name}: place=left"
    page.wait(lambda: wanted in page.text("#html_info_txt2img").replace('"', ""), "the correction in the infotext", 180)


def test_plan_shows_the_places_and_generate_goes_on(page: Page, prompt: str) -> None:
    page.open_panel()
    page.write("#txt2img_prompt textarea", prompt)
    page.click("#txt2img_clora_refresh")
    page.wait(lambda: page.all("#txt2img_clora_table tbody tr"), "the table")
    page.click("#txt2img_clora_plan")
    page.wait(lambda: "This is a plan" in page.text("#html_log_txt2img, #html_info_txt2img"), "the plan", 180)
    page.wait(lambda: int(page.value("#txt2img_seed input")) >= 0, "the plan's seed")
    page.wait(lambda: page.driver.execute_script("return document.querySelector('.clora-canvas').open"), "the canvas")
    page.wait(lambda: page.driver.execute_script(_UNDERNEATH) > 10, "the picture and its masks under the canvas")
    page.click("#txt2img_generate")
    seed, shown = page.value("#txt2img_seed input"), "#html_log_txt2img, #html_info_txt2img"
    page.wait(
        lambda: f"Seed: {seed}" in page.text(shown) and "This is a plan" not in page.text(shown), "the picture", 180
    )
    assert "The plan is not used" not in page.text(shown)


def test_generating_reads_the_prompt(page: Page, prompt: str) -> None:
    page.open_panel()
    page.write("#txt2img_prompt textarea", prompt)
    page.click("#txt2img_generate")
    page.wait(lambda: len(page.all("#txt2img_clora_table tbody tr")) == 2, "the table")


def test_preset_sets_the_settings(page: Page) -> None:
    page.open_panel()
    strength = "#txt2img_clora_step_size input[type=number]"
    assert page.value(strength) == "10"
    page.all("#txt2img_clora_preset input")[0].click()
    options = page.wait(
        lambda: [one for one in page.all("#txt2img_clora_preset .options .item") if "paper" in one.text], "the presets"
    )
    options[0].click()
    page.wait(lambda: page.value(strength) == "20", "the paper's strength")


def test_generating_and_pasting_back(page: Page, prompt: str) -> None:
    page.open_panel()
    page.write("#txt2img_prompt textarea", prompt)
    page.write("#txt2img_steps input[type=number]", "4")
    page.write("#txt2img_clora_refine_updates input[type=number]", "3")
    page.click("#txt2img_generate")
    text = page.wait(lambda: "CLoRA" in (found := page.text("#html_info_txt2img")) and found, "the picture's text", 180)
    assert "CLoRA: on" in text
    assert "CLoRA refine updates: 3" in text
    page.write("#txt2img_clora_refine_updates input[type=number]", "20")
    lines = "Steps: 4, Sampler: Euler, CFG scale: 4, Seed: 1, Size: 256x256, CLoRA: on, CLoRA refine updates: 7"
    page.write("#txt2img_prompt textarea", f"{prompt}\n{lines}")
    page.click("#paste")
    page.wait(lambda: page.value("#txt2img_clora_refine_updates input[type=number]") == "7", "the pasted setting")
    assert page.value("#txt2img_prompt textarea") == prompt


def test_a_mistake_is_told_under_the_picture(page: Page, prompt: str) -> None:
    page.open_panel()
    page.write("#txt2img_prompt textarea", f"{prompt}, a <lora:no such lora:1> horse")
    page.click("#txt2img_generate")
    page.wait(lambda: "no such lora" in page.text("#html_log_txt2img, #html_info_txt2img, #tab_txt2img .error"), "it")
