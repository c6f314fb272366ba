"""Plan, correct and generate as an animated picture, from the page in Chromium.

Usage: python -m tests.page.page_film [--out docs/figures/plan.webp]
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import Any

from PIL import Image

from tests.page.page_browser import ROOT, Tab, chromium, served
from tests.ui.canvas_browser import CANVAS

WIDTH, HEIGHT, SCALE = 1100, 760, 0.66
MOVED = "singer"
"""The LoRA whose subject is moved."""
_POINTER = """
let dot = document.querySelector("#film");
if (!dot) {
    dot = document.createElement("div");
    dot.id = "film";
    dot.style.cssText = "position: fixed; z-index: 9999; width: 22px; height: 22px; margin: -11px; border-radius: 50%;"
        + "border: 3px solid #d55e00; background: rgb(213 94 0 / 35%); pointer-events: none";
    document.body.append(dot);
}
[dot.style.left, dot.style.top] = [arguments[0] + "px", arguments[1] + "px"];
"""
_PLACE = """
const place = document.querySelector(arguments[0]).getBoundingClientRect();
return [place.x, place.y, place.width, place.height];
"""


class Film:
    """Frames of a tab, each with the milliseconds for which it is shown."""

    def __init__(self, tab: Tab) -> None:
        self.tab, self.frames, self.times = tab, list[Image.Image](), list[int]()
        self._at = (WIDTH / 2, HEIGHT / 2)

    def shoot(self, milliseconds: int) -> None:
        """One frame of what is in sight."""
        shot = Image.open(io.BytesIO(self.tab.driver.get_screenshot_as_png())).convert("RGB")
        self.frames.append(shot.resize((round(WIDTH * SCALE), round(HEIGHT * SCALE)), Image.Resampling.LANCZOS))
        self.times.append(milliseconds)

    def point(self, x: float, y: float, steps: int = 6, milliseconds: int = 60) -> None:
        """Move the mouse there, in the window's pixels."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        (left, top), self._at = self._at, (x, y)
        for step in range(1, steps + 1):
            now = (left + (x - left) * step / steps, top + (y - top) * step / steps)
            mouse = ActionBuilder(self.tab.driver, duration=10)
            mouse.pointer_action.move_to_location(round(now[0]), round(now[1]))
            mouse.perform()
            self.tab.run(_POINTER, *now)
            self.shoot(milliseconds)

    def centre(self, selector: str) -> tuple[float, float]:
        """The middle of an element in the window."""
        x, y, width, height = self.tab.run(_PLACE, selector)
        return x + width / 2, y + height / 2

    def press(self, selector: str) -> None:
        """Go to an element and click it."""
        self.point(*self.centre(selector))
        self.shoot(350)
        self.tab.run("document.querySelector(arguments[0]).click()", selector)
        self.shoot(200)

    def drag(self, *points: tuple[float, float]) -> None:
        """Drag between points of the canvas, in parts of its width and height."""
        left, top, width, height = self.tab.run(_PLACE, CANVAS)
        for number, (x, y) in enumerate(points):
            self.point(left + x * width, top + y * height, steps=4 if number else 6)
            if number in (0, len(points) - 1):
                self._button("down" if number == 0 else "up")
        self.shoot(900)

    def _button(self, which: str) -> None:
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        mouse: Any = ActionBuilder(self.tab.driver, duration=10)
        getattr(mouse.pointer_action, f"pointer_{which}")()
        mouse.perform()

    def save(self, path: Path) -> None:
        """Write the animation."""
        first, *rest = self.frames
        first.save(path, save_all=True, append_images=rest, duration=self.times, loop=0, quality=70, method=6)
        print(path, f"{path.stat().st_size / 1e6:.2f} MB, {len(self.frames)} frames, {sum(self.times) / 1000:.0f} s")


def play(tab: Tab, seed: int) -> Film:
    """Plan, move a subject, generate."""
    film = Film(tab)
    top = "window.scrollTo({top: 0, behavior: 'instant'})"
    tab.type("#clora_seed input", str(seed))
    tab.run("document.querySelector('.clora-canvas').open = true; document.activeElement.blur()")
    tab.run("document.querySelector('#txt2img_clora').scrollIntoView({block: 'start', behavior: 'instant'})")
    film.shoot(900)
    film.press("#txt2img_clora_plan")
    tab.wait(lambda: "This is a plan" in tab.text("#clora_status"), "the plan", 180)
    time.sleep(3)
    tab.run(top)
    film.shoot(2200)
    tab.run("document.querySelector('.clora-canvas').scrollIntoView({block: 'start', behavior: 'instant'})")
    film.shoot(1200)
    film.press(f".clora-canvas [data-lora='{MOVED}']")
    film.drag((0.72, 0.68), (0.66, 0.5), (0.62, 0.34), (0.72, 0.28))
    time.sleep(5)  # until the table has the place
    tab.run(top)
    film.press("#txt2img_generate")
    tab.wait(lambda: "Done" in tab.text("#clora_status") and tab.all(".clora-compare"), "the picture", 600)
    time.sleep(1)
    film.shoot(3500)
    return film


def main() -> None:
    """Write the animation."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "plan.webp")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--log", type=Path, default=Path("outputs/film.log"))
    options = parser.parse_args()
    options.log.parent.mkdir(parents=True, exist_ok=True)
    with served(options.log) as url, chromium() as driver:
        play(Tab(driver, url, width=WIDTH, height=HEIGHT), options.seed).save(options.out)


if __name__ == "__main__":
    main()
