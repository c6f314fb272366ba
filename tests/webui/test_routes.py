"""CLoRA's routes ask for the password that the WebUI was started with."""

from __future__ import annotations

from typing import Any

import pytest

from tests.webui.standin_host import Host


@pytest.fixture
def passwords(both: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(both.shared.cmd_opts, "api_auth", "ann:secret:with colon,ben:other")


def check(user: str, password: str) -> None:
    """What the host's server does with each request's credentials."""
    from fastapi.security import HTTPBasicCredentials

    from clora.hosts.host_api import api_dependencies

    (dependency,) = api_dependencies()
    dependency.dependency(HTTPBasicCredentials(username=user, password=password))


@pytest.mark.usefixtures("passwords")
@pytest.mark.parametrize(("user", "password"), [("ann", "secret:with colon"), ("ben", "other")])
def test_users_get_in(user: str, password: str) -> None:
    check(user, password)


@pytest.mark.usefixtures("passwords")
@pytest.mark.parametrize(
    ("user", "password"), [("ann", "other"), ("ben", "secret:with colon"), ("ann", ""), ("", "other"), ("eve", "other")]
)
def test_nobody_else_gets_in(user: str, password: str) -> None:
    from fastapi import HTTPException

    with pytest.raises(HTTPException) as refused:
        check(user, password)
    assert refused.value.status_code == 401
    assert refused.value.headers == {"WWW-Authenticate": "Basic"}


def routes() -> list[Any]:
    from fastapi import FastAPI

    from clora.webui.api import add_routes

    app = FastAPI()
    add_routes(app, lambda *_: None)  # type: ignore[arg-type,return-value]
    return [route for route in app.routes if route.path.startswith("/clora/")]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("passwords")
def test_every_route_asks() -> None:
    assert len(routes()) == 3
    assert all(len(route.dependencies) == 1 for route in routes())


@pytest.mark.usefixtures("both")
def test_without_passwords_nobody_is_asked() -> None:
    assert not any(route.dependencies for route in routes())
