"""The Plan button in Chromium, in both versions of gradio."""

from __future__ import annotations

import json
import time
from typing import Any

from clora.settings import SETTINGS
from tests.ui.panel_browser import PanelTab

_VALUE = "const found = document.querySelector(arguments[0]); return found ? found.value : null"
_SET = (
    "const found = document.querySelector(arguments[0]); found.value = arguments[1];"
    "for (const name of ['input', 'change', 'blur']) found.dispatchEvent(new Event(name, {bubbles: true}))"
)


def told(tab: PanelTab) -> dict[str, Any]:
    """What the host was asked last."""
    text = tab.run(_VALUE, "#generation_info_txt2img textarea")
    return dict(json.loads(text)) if text else {}


def seed(tab: PanelTab) -> str:
    return str(tab.run(_VALUE, "#txt2img_seed input"))


def planned(tab: PanelTab) -> str:
    return str(tab.run(_VALUE, "#txt2img_clora_planned textarea"))


def plan(tab: PanelTab) -> str:
    """Press Plan and wait for its job; the plan's name."""
    tab.click("#txt2img_clora_plan")
    tab.wait(lambda: told(tab).get("plan", "").endswith(" only"), "the plan's job")
    name = str(told(tab)["plan"]).removesuffix(" only")
    tab.wait(lambda: planned(tab) == name, "the plan's name")
    return name


def test_plan_asks_the_host_and_keeps_the_seed(tab: PanelTab) -> None:
    assert seed(tab) == "-1"
    ahead = "#txt2img_clora_look_ahead input[type=number]"
    tab.run(_SET, ahead, "0")
    name = plan(tab)
    assert len(name) >= 8
    assert told(tab)["count"] == len(SETTINGS) + 2, "settings, corrections and the plan"
    tab.wait(lambda: seed(tab) == "77", "the plan's seed")
    tab.wait(lambda: tab.run("return document.querySelector('.clora-canvas').open"), "the canvas")
    tab.wait(lambda: tab.run(_VALUE, ahead) == "0.15", "Look ahead")
    tab.click("#txt2img_generate")
    tab.wait(lambda: told(tab)["plan"] == name, "the job that goes on from the plan")
    assert told(tab)["seed"] == 77
    assert plan(tab) == name, "a tab has one plan"


def test_a_quick_plan_is_not_made_again(tab: PanelTab) -> None:
    """Generate right after the plan's result goes on from it, also where the plan took a tenth of a second."""
    tab.click("#txt2img_clora_plan")
    tab.wait(lambda: seed(tab) == "77", "the plan's seed")
    name = planned(tab)
    assert not name.endswith(" only")
    tab.click("#txt2img_generate")
    tab.wait(lambda: told(tab)["plan"] == name, "the job that goes on from the plan")


def test_without_a_plan_nothing_is_asked(tab: PanelTab) -> None:
    tab.click("#txt2img_generate")
    tab.wait(lambda: told(tab), "the job")
    assert told(tab)["plan"] == ""


def test_a_seed_that_is_set_stays(tab: PanelTab) -> None:
    tab.type("#txt2img_seed input", "5")
    plan(tab)
    assert told(tab)["seed"] == 5
    assert seed(tab) == "5"


def test_a_change_that_is_on_its_way_comes_first(tab: PanelTab) -> None:
    """Generate waits for it, and is still asked to plan only."""
    cell = tab.all(".clora-table [data-lora=cat][data-key=place]")[0]
    tab.run("arguments[0].value = 'left'; arguments[0].dispatchEvent(new Event('change', {bubbles: true}))", cell)
    plan(tab)
    tab.wait(lambda: "cat: place=left" in tab.corrections(), "the place")


def test_after_a_plan_that_failed_the_next_picture_keeps_a_random_seed(tab: PanelTab) -> None:
    tab.type("#txt2img_seed input", "-2")
    tab.click("#txt2img_clora_plan")
    tab.wait(lambda: planned(tab).endswith(" only"), "the wish")
    tab.wait(lambda: planned(tab) and not planned(tab).endswith(" only"), "the plan's name")
    tab.type("#txt2img_seed input", "-1")
    tab.run("document.querySelector('#txt2img_generate').click()")  # as the hosts do at Ctrl+Enter
    tab.wait(lambda: told(tab), "the picture")
    time.sleep(0.5)
    assert seed(tab) == "-1"
