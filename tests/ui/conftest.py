"""The panel in Chromium, in both versions of gradio, with one prompt read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.page import page_browser
from tests.ui.panel_browser import HOSTS, PROMPT, PanelTab, gradio_folder, served


@pytest.fixture(scope="module", params=HOSTS)
def panel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """A browser and the panel's address."""
    if page_browser.missing() or not (gradio_folder(request.param) / ".done").is_file():
        pytest.skip(page_browser.missing() or f"gradio {request.param} is not installed: make test puts it there")
    folder = tmp_path_factory.mktemp("panel")
    with served(request.param, folder) as url, page_browser.chromium() as driver:
        yield driver, url


@pytest.fixture
def tab(panel: tuple[Any, str]) -> PanelTab:
    made = PanelTab(*panel)
    made.read(PROMPT)
    return made
