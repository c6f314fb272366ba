"""The panel of both gradio versions in headless Chromium.

As a command it draws pictures of the panel: python -m tests.ui.panel_browser FOLDER
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.page.page_browser import ROOT, Tab, chromium, free_port, running
from tests.ui.panel_served import STYLE, page_script, page_style

HOSTS = {"3.41.2": "a1111", "4.40.0": "forge"}
PROMPT = "a <lora:cat:1> black cat and a <lora:dog:1> dog on a red sofa"
PROMPT_BOX = "#txt2img_prompt textarea"


def gradio_folder(version: str) -> Path:
    """Where a version of gradio is installed."""
    return Path(sys.prefix) / f"gradio-{version}"


@contextmanager
def served(version: str, folder: Path) -> Iterator[str]:
    """The address of the panel with a version of gradio; `folder` gets its LoRAs and log."""
    port, log, loras = free_port(), folder / "log.txt", folder / "loras"
    variables = {
        **os.environ, "PYTHONPATH": f"{gradio_folder(version)}{os.pathsep}{ROOT}", "NO_PROXY": "127.0.0.1,localhost",
        "GRADIO_ANALYTICS_ENABLED": "False", "OMP_NUM_THREADS": "1", "GRADIO_TEMP_DIR": str(folder / "temp"),
    }  # fmt: skip
    loras.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.ui.panel_served", HOSTS[version], str(loras), str(port)]
    with running(command, port, log, "The panel is there", variables) as url:
        yield url


class PanelTab(Tab):
    """The page with the panel, opened."""

    told = "#txt2img_clora_message, #txt2img_clora_table"

    def __init__(self, driver: Any, url: str, *, theme: str = "light", width: int = 900, height: int = 1100) -> None:
        self.driver = driver
        self.resize(width, height)
        driver.get(f"{url}/?__theme={theme}")
        self.wait(lambda: self.all("#txt2img_prompt textarea"), "the page")
        self.run(STYLE, page_style())
        self.run(page_script())
        self.run("[...document.querySelectorAll('.label-wrap')].find((b) => b.innerText.includes('CLoRA')).click()")
        self.wait(lambda: self.all("#txt2img_clora_refresh")[0].is_displayed(), "the open panel")

    def read(self, prompt: str) -> None:
        """Write a prompt and read it into the table."""
        before = self.all("#txt2img_clora_table > *")[:1] or self.all("#txt2img_clora_table *")[:1]
        self.type(PROMPT_BOX, prompt)
        self.click("#txt2img_clora_refresh")
        gone = "return !arguments[0].isConnected || !arguments[0].offsetParent"
        self.wait(lambda: self.all(".clora-table tbody tr"), "the table")
        if before:
            self.wait(lambda: self.run(gone, before[0]) or self.all(".clora-table"), "the new table")

    def chosen(self) -> list[str]:
        """The words that are marked as those of the chosen row."""
        script = "return [...document.querySelectorAll('.clora-chip[aria-pressed=true]')].map((c) => c.dataset.value)"
        return list(self.run(script))

    def corrections(self) -> str:
        """What the corrections say."""
        return str(self.run("return document.querySelector('#txt2img_clora_corrections textarea').value"))


EXAMPLE = "a <lora:cat:1> black cat on a red sofa and a <lora:dog:0.8> brown dog, best quality, <lora:inkstyle:0.5>"


def main() -> None:
    """Pictures of the panel: both versions, both themes, plain and with a problem."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as driver:
        for version in HOSTS:
            with served(version, Path(folder) / version) as url:
                for theme in ("light", "dark"):
                    tab = PanelTab(driver, url, theme=theme)
                    tab.read(EXAMPLE)
                    tab.click(".clora-row[data-lora=cat]")
                    tab.screenshot(out / f"{version}-{theme}.png")
                    tab.type("#txt2img_clora_corrections textarea", "cat: words=cow\ndog: role=pet")
                    tab.wait(lambda tab=tab: tab.all("[aria-invalid=true]"), "the wrong cell")
                    time.sleep(0.5)
                    tab.screenshot(out / f"{version}-{theme}-wrong.png")


if __name__ == "__main__":
    main()
