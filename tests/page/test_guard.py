"""Only the page itself may send requests to its server: other websites get 403, by headers and in Chromium."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clora.page.guard import Guard
from tests.page import page_browser

OWN = "127.0.0.1:7861"
Headers = list[tuple[str, str]]


def answer(headers: Headers, *, listens: str = "127.0.0.1", **request: Any) -> Any:
    """The status of a request, "through" if the page gets it."""
    sent: list[dict[str, Any]] = []
    reached: list[Any] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "method": "POST", "path": "/queue/join", "headers": pairs, **request}
    asyncio.run(Guard(page, listens)(scope, None, send))  # type: ignore[arg-type]
    assert bool(reached) != bool(sent)
    return "through" if reached else sent[0].get("status", sent[0]["type"])


@pytest.mark.parametrize("host", [OWN, "localhost:7861", "LOCALHOST:9000", "[::1]:7861", "localhost"])
def test_the_page_itself_is_answered(host: str) -> None:
    """The port may be another one, as behind a forwarded port; the origin must have the same."""
    for kind in ("http", "websocket"):
        assert answer([("Host", host)], type=kind) == "through"
        assert answer([("Host", host), ("Origin", f"http://{host}")], type=kind) == "through"
        own = [("Host", host), ("Origin", f"http://{host}"), ("Sec-Fetch-Site", "same-origin")]
        assert answer(own, type=kind) == "through"


FOREIGN_HOSTS = [
    "evil.example", "evil.example:7861", "127.0.0.1.evil.example:7861", "localhost.evil.example", "localhost.", "",
    "127.0.0.1:7861@evil.example", "evil.example@127.0.0.1", "127.0.0.1:x", "192.168.1.5:7861", "[::1", "a/127.0.0.1",
    "127.0.0.1/", "127.0.0.1?x", "127.0.0.1#x", "\xe9", "0x7f.1",
]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_another_host_is_refused(host: str) -> None:
    assert answer([("Host", host)]) == 403
    assert answer([("Host", host), ("Origin", f"http://{host}")]) == 403
    assert answer([("Host", host)], type="websocket") == "websocket.close"
    assert answer([("Host", OWN), ("Host", host)]) == 403


FOREIGN_ORIGINS = [
    "null", "http://evil.example", f"http://{OWN}.evil.example", "http://127.0.0.1:8000", "http://localhost:7861", "",
    "http://127.0.0.1", f"ftp://{OWN}", f"http://{OWN}/", f"http://evil.example@{OWN}", "file://", "\xe9",
]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_another_origin_is_refused(origin: str) -> None:
    given = [("Host", OWN), ("Origin", origin)]
    for path in ("/", "/config", "/queue/join", "/upload", "/file=/etc/hosts"):
        for method in ("GET", "POST", "OPTIONS", "HEAD"):
            assert answer(given, path=path, method=method) == 403
        assert answer(given, path=path, type="websocket") == "websocket.close"
    assert answer([*given, ("Origin", f"http://{OWN}")]) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "?"])
def test_requests_that_another_page_starts_are_refused(site: str) -> None:
    """Pictures, scripts and frames of another page have no Origin."""
    given = [("Host", OWN), ("Sec-Fetch-Site", site)]
    assert answer(given, method="GET", path="/config") == 403
    link = [*given, ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
    assert answer(link, method="GET", path="/") == "through"
    assert answer(link, method="GET", path="/config") == 403
    assert answer(link, method="POST", path="/") == 403
    frame = [*given, ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")]
    assert answer(frame, method="GET", path="/") == 403


def test_on_every_address_the_machines_own_names_are_the_pages() -> None:
    for listens in ("0.0.0.0", "::"):
        assert answer([("Host", "192.168.1.5:7861")], listens=listens) == "through"
        assert answer([("Host", "evil.example:7861")], listens=listens) == 403
        assert answer([("Host", "192.168.1.5:7861"), ("Origin", "null")], listens=listens) == 403
    assert answer([("Host", "box.lan:7861")], listens="box.lan") == "through"
    assert answer([], listens="box.lan") == 403


# ------------------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if page_browser.missing():
        pytest.skip(page_browser.missing())
    with page_browser.served(tmp_path_factory.mktemp("guard") / "log.txt") as address:
        yield address


def status(url: str, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url + path, body, named, method=method), timeout=30) as found:
            return int(found.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_running_page_refuses_by_headers(url: str) -> None:
    """gradio answers preflights in a layer of its own, and allows the origin "null" there."""
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "x"}).encode()
    assert status(url, "/config") == 200
    assert status(url, "/config", Origin=url) == 200
    for headers in ({"Origin": "null"}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        asked = {**headers, "Access_Control_Request_Method": "POST"}
        assert status(url, "/queue/join", "OPTIONS", **asked) == 403
        assert status(url, "/queue/join", "POST", body, Content_Type="application/json", **headers) == 403
        assert status(url, "/upload", "POST", b"x", Content_Type="multipart/form-data; boundary=x", **headers) == 403
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
        assert status(url, "/queue/join", Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==", **upgrade, **headers) == 403
        for path in ("/", "/config", "/info", "/queue/data?session_hash=x", "/heartbeat/x", "/app_id", "/theme.css"):
            assert status(url, path, **headers) == 403, path


ATTACK = """<!doctype html><title>another site</title><script>
const target = "TARGET", answers = [];
async function attack() {
  const json = {method: "POST", headers: {"content-type": "application/json"}, body: "{}"};
  const form = new FormData(); form.append("files", new Blob(["x"]), "x.txt");
  const tries = {
    config: () => fetch(target + "/config"), blind: () => fetch(target + "/config", {mode: "no-cors"}),
    join: () => fetch(target + "/queue/join", json),
    text: () => fetch(target + "/queue/join", {method: "POST", mode: "no-cors", body: "{}"}),
    upload: () => fetch(target + "/upload", {method: "POST", mode: "no-cors", body: form}),
    stream: () => new Promise((done, fail) => {
      const events = new EventSource(target + "/queue/data?session_hash=x");
      events.onopen = () => done({type: "open"}); events.onerror = () => { events.close(); fail(); };
    }),
    socket: () => new Promise((done, fail) => {
      const socket = new WebSocket(target.replace("http", "ws") + "/queue/join");
      socket.onopen = () => done({type: "open"}); socket.onerror = () => fail();
    }),
    picture: () => new Promise((done, fail) => {
      const image = new Image(); image.onload = () => done({type: "open"}); image.onerror = () => fail();
      image.src = target + "/static/img/logo.svg";
    }),
  };
  const got = {};
  for (const [name, run] of Object.entries(tries)) {
    try { const found = await run(); got[name] = found.type; } catch { got[name] = "refused"; }
  }
  return got;
}
</script><body>"""
PAGE = (
    ATTACK
    + """<iframe id="framed" src="TARGET/"></iframe><script>
addEventListener("message", (event) => { answers.push(event.data); });
attack().then((got) => answers.push(got));
const sandboxed = document.createElement("iframe");
sandboxed.sandbox = "allow-scripts";
sandboxed.src = "/sandboxed";
document.body.append(sandboxed);
</script>"""
)
SANDBOXED = ATTACK + '<script>attack().then((got) => parent.postMessage(got, "*"));</script>'
OPAQUE = {"blind", "text", "upload"}
"""Tries whose answer a page cannot see; that it was 403 is in the browser's log."""


@contextmanager
def another_site(target: str) -> Iterator[str]:
    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = (SANDBOXED if self.path == "/sandboxed" else PAGE).replace("TARGET", target)
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def statuses(driver: Any, target: str) -> list[tuple[str, int]]:
    """Address and status of every answer of the target that Chromium has seen since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    named = {"Network.requestWillBeSent": "request", "Network.webSocketCreated": ""}
    sent: dict[str, str] = {}
    for event in events:
        if event["method"] in named:
            given = event["params"][named[event["method"]]] if named[event["method"]] else event["params"]
            sent[event["params"]["requestId"]] = given["url"].replace("ws://", "http://")
    seen = [event["params"] for event in events if event["method"] == "Network.responseReceivedExtraInfo"]
    answered = [(sent.get(one["requestId"], ""), int(one["statusCode"])) for one in seen]
    return [(address, code) for address, code in answered if address.startswith(target)]


def test_a_page_of_another_origin_gets_nothing(url: str) -> None:
    rebound = "MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with page_browser.chromium(resolver=rebound, log=True) as driver, another_site(url) as site:
        driver.get(site)
        tab = page_browser.Tab.__new__(page_browser.Tab)
        tab.driver = driver
        got = tab.wait(lambda: (found := tab.run("return answers")) and len(found) == 2 and found, "both answers")
        for one in got:
            assert set(one) > OPAQUE
            assert {one[name] for name in set(one) - OPAQUE} == {"refused"}, one
        codes = statuses(driver, url)
        assert {address.removeprefix(url) for address, _ in codes} >= {"/", "/config", "/queue/join", "/upload"}
        assert {code for _, code in codes} == {403}, codes
        # A name that is made to lead to this machine.
        driver.get(url.replace("127.0.0.1", "evil.example"))
        assert "refuses this request" in tab.text("body")
        # A link to the page works.
        driver.get(site)
        tab.run("location.href = arguments[0]", url)
        tab.wait(lambda: tab.all("#txt2img_clora_table tr"), "the page")
