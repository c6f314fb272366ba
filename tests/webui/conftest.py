"""The stand-in hosts, one pair for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.standin import installed
from tests.webui.standin_host import KINDS, Host


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    pytest.importorskip("fastapi")
    with installed():
        yield Host(tmp_path_factory.mktemp("loras"))


@pytest.fixture(params=KINDS)
def host(request: pytest.FixtureRequest, both: Host) -> Host:
    both.use(request.param)
    return both


@pytest.fixture
def nothing_is_left(host: Host) -> Iterator[None]:
    """After the test a job without CLoRA leaves the host as it was before."""
    before = host.traces()
    yield
    host.draw("a cat", {"enabled": False}, steps=1, width=64, height=64)
    assert host.traces() == before
