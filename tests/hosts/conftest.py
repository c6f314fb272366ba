"""The WebUI that the suite runs against, and a prompt for its LoRAs (see webui_server.py for the variables)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.hosts.webui_server import Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running_server() as found:
        if found is None:
            pytest.skip("no WebUI to test against: set CLORA_WEBUI_URL or CLORA_WEBUI_DIR")
        yield found


@pytest.fixture(scope="session")
def prompt(server: Server) -> str:
    """With two concept LoRAs, by default two embedded ones, or else the first two that the WebUI lists."""
    if os.environ.get("CLORA_WEBUI_PROMPT"):
        return os.environ["CLORA_WEBUI_PROMPT"]
    names = [lora["name"] for lora in server.call("/sdapi/v1/loras")]
    assert len(names) > 1, "the WebUI has fewer than two LoRAs"
    if {"genie", "poodle"} <= set(names):
        return "a <lora:genie:1> sks person and a <lora:poodle:1> sks dog on grass"
    return f"a <lora:{names[0]}:1> cat and a <lora:{names[1]}:1> dog on grass"
