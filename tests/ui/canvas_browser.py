"""The canvas in Chromium: drawing on it with the mouse, with a finger and by keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tests.page.page_browser import Tab

CANVAS = ".clora-canvas canvas"
Point = tuple[float, float]
"""Parts of the canvas's width and height."""

_POINTER = """
const [kind, type, x, y] = arguments, canvas = document.querySelector(".clora-canvas canvas");
const place = canvas.getBoundingClientRect();
canvas.dispatchEvent(new PointerEvent(kind, {
    pointerId: 7, pointerType: type, button: kind === "pointermove" ? -1 : 0, bubbles: true, cancelable: true,
    clientX: place.left + x * place.width, clientY: place.top + y * place.height,
}));
"""


class Canvas:
    """The canvas of a tab, opened."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        tab.run("document.querySelector('.clora-canvas').open = true")
        tab.wait(lambda: self.element.is_displayed(), "the canvas")
        tab.run("document.querySelector('.clora-canvas summary').scrollIntoView()")

    @property
    def element(self) -> Any:
        """The canvas itself."""
        return self.tab.all(CANVAS)[0]

    def choose(self, lora: str) -> None:
        """Choose a subject."""
        self.tab.click(f".clora-canvas [data-lora='{lora}']")

    def take(self, tool: str) -> None:
        """Choose a tool."""
        self.tab.click(f".clora-canvas [data-tool={tool}]")

    def drag(self, *points: Point) -> None:
        """Drag with the mouse, once the canvas has stopped moving: what comes and goes above it may push it."""
        from selenium.webdriver.common.action_chains import ActionChains

        place, last = "const {x, y} = arguments[0].getBoundingClientRect(); return [x, y]", None
        while (now := self.tab.run(place, self.element)) != last:
            last = now
            time.sleep(0.2)
        width, height = self.element.size["width"], self.element.size["height"]
        actions = ActionChains(self.tab.driver, duration=20)
        for number, (x, y) in enumerate(points):
            actions.move_to_element_with_offset(self.element, round((x - 0.5) * width), round((y - 0.5) * height))
            if number == 0:
                actions.click_and_hold()
        actions.release().perform()

    def touch(self, points: Sequence[Point], ends: str = "pointerup") -> None:
        """Drag with a finger."""
        for number, (x, y) in enumerate(points):
            self.tab.run(_POINTER, "pointermove" if number else "pointerdown", "touch", x, y)
        self.tab.run(_POINTER, ends, "touch", *points[-1])

    def chord(self, modifier: str, *keys: str) -> None:
        """Keys while another one is held, to whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.tab.driver).key_down(modifier).send_keys(*keys).key_up(modifier).perform()

    def place(self) -> str:
        """What the line below the canvas says about the chosen subject."""
        return str(self.tab.all(".clora-canvas-place")[0].text)

    def share(self, colour: tuple[int, int, int]) -> float:
        """The part of the canvas's pixels that are nearest to a colour, for masks on an empty canvas."""
        script = """
        const canvas = document.querySelector(".clora-canvas canvas"), [red, green, blue] = arguments;
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let found = 0;
        for (let i = 0; i < data.length; i += 4) {
            const far = Math.abs(data[i] - red) + Math.abs(data[i + 1] - green) + Math.abs(data[i + 2] - blue);
            if (data[i + 3] > 90 && far < 30) found += 1;
        }
        return found / (data.length / 4);"""
        return float(self.tab.run(script, *colour))
