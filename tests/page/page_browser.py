"""`clora serve` in a process of its own, and headless Chromium in front of it.

As a command it draws the documents' pictures: python -m tests.page.page_browser [--out docs/figures/page.png]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[2]
GRADIO = Path(sys.prefix) / "gradio-4.40.0"
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


_ALONE = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
"""The page must work without any other machine."""


def missing() -> str:
    """What is not here of what the page's browser needs, "" if all of it is."""
    if not (GRADIO / ".done").is_file():
        return f"{GRADIO.name} is not installed beside the environment: make test puts it there"
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed"
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else ""


def environment() -> dict[str, str]:
    """For a process that has gradio."""
    return {**os.environ, "PYTHONPATH": str(GRADIO), "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, log: Path, ready: str, variables: dict[str, str]) -> Iterator[str]:
    """The address of a server, once its log says that it is ready; it ends with the block."""
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.time() + 180
        while ready not in log.read_text():
            if process.poll() is not None or time.time() > until:
                raise RuntimeError(log.read_text())
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextmanager
def served(log: Path) -> Iterator[str]:
    """The address of a page that runs meanwhile."""
    port, presets = free_port(), str(log.with_name("clora-presets.json"))
    command = [sys.executable, "-m", "clora.cli.main", "serve", "--port", str(port), "--device", "cpu"]
    with running([*command, "--presets", presets], port, log, "The page is at", environment()) as url:
        yield url


@contextmanager
def chromium(*, resolver: str = _ALONE, log: bool = False) -> Iterator[Any]:
    """A browser; `resolver` says which names lead where, `log` keeps a log of its requests."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    if log:
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    for flag in (*_FLAGS, f"--host-resolver-rules={resolver}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class Tab:
    """The page in a browser."""

    told = "#clora_status"
    """What tells how it stands, for failures."""

    def __init__(self, driver: Any, url: str, *, theme: str = "light", width: int = 1280, height: int = 1100) -> None:
        self.driver = driver
        self.resize(width, height)
        driver.get(f"{url}/?__theme={theme}")
        self.wait(lambda: self.all("#clora_words mark") and self.all("#txt2img_clora_table tr"), "the page")

    def resize(self, width: int, height: int) -> None:
        """A window of so many pixels inside."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[Any]:
        """Elements."""
        return list(self.driver.find_elements("css selector", selector))

    def text(self, selector: str) -> str:
        """All texts of elements, those that are not in sight too."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent).join(' ')"
        return str(self.run(script, selector))

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 90) -> Any:
        """The condition's value as soon as there is one."""
        until = time.time() + seconds
        while time.time() < until:
            found = condition()
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{what} did not appear: {self.text(self.told)}")

    def keys(self, *keys: str) -> None:
        """Keys to whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def type(self, selector: str, text: str) -> None:
        """Put a text in place of what a field holds, by the keyboard."""
        from selenium.webdriver.common.keys import Keys

        field = self.all(selector)[0]
        self.run("arguments[0].scrollIntoView({block: 'center'})", field)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text or Keys.BACKSPACE)

    def click(self, selector: str) -> None:
        """Click the first such element, once it has stopped moving: what comes and goes above it may push it."""
        place = "const {x, y} = arguments[0].getBoundingClientRect(); return [x, y + scrollY]"
        element, last = self.all(selector)[0], None
        while (now := self.run(place, element)) != last:
            last = now
            time.sleep(0.2)
        element.click()

    def open_settings(self, tab: str = "txt2img") -> None:
        """Open the panel's group of settings, which is closed at first."""
        group = f"#{tab}_clora_settings"
        self.click(f"{group} .label-wrap")
        self.wait(lambda: self.all(f"#{tab}_clora_method")[0].is_displayed(), "the settings")

    def tab_to(self, selector: str, most: int = 80) -> None:
        """Go on with the Tab key until an element has the focus."""
        from selenium.webdriver.common.keys import Keys

        for _ in range(most):
            if self.run("return document.activeElement.matches(arguments[0])", selector):
                return
            self.keys(Keys.TAB)
        raise AssertionError(f"{selector} cannot be reached by the keyboard")

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def screenshot(self, path: Path) -> None:
        """The whole page as a picture."""
        height = int(self.run("return document.documentElement.scrollHeight"))
        width = int(self.run("return innerWidth"))
        self.resize(width, height)
        time.sleep(0.3)
        self.driver.save_screenshot(str(path))


def _draw_on_canvas(tab: Tab) -> Any:
    """The canvas's part of the page, with a box, a painted place and the last picture underneath."""
    from tests.ui.canvas_browser import Canvas

    canvas = Canvas(tab)
    tab.click(".clora-canvas-last input")
    canvas.drag((0.04, 0.3), (0.3, 0.6), (0.44, 0.96))
    canvas.choose("singer")
    canvas.take("paint")
    canvas.drag((0.66, 0.55), (0.8, 0.55), (0.72, 0.7), (0.66, 0.55))
    tab.wait(lambda: "painted" in tab.text(".clora-canvas-place"), "the painted place")
    time.sleep(4)  # until the table has it
    return tab.all(".clora-canvas")[0].rect


_TABLE = """
const parts = [".clora-wide", ".clora-choices"].map((one) => document.querySelector(one));
const [table, words] = parts.map((one) => one.getBoundingClientRect());
return [table.left, table.top + scrollY, table.right, words.bottom + scrollY].map(Math.round);
"""


def main() -> None:
    """Write the picture of the page with the README's prompt, beside it table and canvas (panel.png, canvas.png)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "page.png")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument("--log", type=Path, default=Path("outputs/page.log"))
    options = parser.parse_args()
    options.log.parent.mkdir(parents=True, exist_ok=True)
    with served(options.log) as url, chromium() as driver:
        tab = Tab(driver, url, theme=options.theme, width=options.width)
        tab.type("#clora_seed input", "3")
        tab.click("#txt2img_generate")
        tab.wait(lambda: "Done" in tab.text("#clora_status"), "the picture", 300)
        tab.wait(lambda: tab.all(".clora-row[data-lora=singer]"), "the table")
        tab.click(".clora-row[data-lora=singer]")
        tab.screenshot(options.out)
        left, top, right, bottom = tab.run(_TABLE)
        tab.resize(options.width, 1400)
        place = _draw_on_canvas(tab)
        tab.screenshot(options.out.with_name("canvas.png"))
    with Image.open(options.out.with_name("canvas.png")) as whole:
        x, y, width = round(place["x"]), round(place["y"]), min(700, round(place["width"]))
        canvas = whole.convert("RGB").crop((x - 8, y - 8, x + width, y + round(place["height"])))
    canvas.quantize(256, method=Image.Quantize.MEDIANCUT).save(options.out.with_name("canvas.png"), optimize=True)
    print(options.out.with_name("canvas.png"))
    # Down to the table's end, in few colours: the documents' pictures are to be small.
    with Image.open(options.out) as whole:
        page = whole.convert("RGB")
    for box, path in (
        ((left - 8, top - 8, right + 8, bottom + 8), options.out.with_name("panel.png")),
        ((0, 0, page.width, bottom + 12), options.out),
    ):
        page.crop(box).quantize(256, method=Image.Quantize.MEDIANCUT).save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
