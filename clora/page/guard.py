"""Refuses requests of other websites: any page in the user's browser can send requests to a server on this machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

Scope = Mapping[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ALL_ADDRESSES = ("0.0.0.0", "::", "")
_OWN_SITE = ("same-origin", "none")
"""Values of Sec-Fetch-Site: a request of the page itself, and an address that the user typed or opened."""


class Guard:
    """An ASGI application around the page's own: 403 for every request whose Host or Origin is not the page's.

    A name in `Host` that is not the page's is what DNS rebinding sends. `Origin` must be the host that the request is
    sent to; "null", which sandboxed frames send, is not. `host` is the address that the server listens on.
    """

    def __init__(self, app: Application, host: str) -> None:
        self.app = app
        self._host = host.strip("[]").lower()
        self._names = {*_LOOPBACK, self._host}
        if self._host in _ALL_ADDRESSES:
            own = socket.gethostname().lower()
            self._names |= {own, f"{own}.local", socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request, or pass on the server's own messages."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        reason = self.refusal(scope)
        if not reason:
            await self.app(scope, receive, _not_framed(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted, so the answer is 403
        else:
            text = f"The page refuses this request: {reason}.\n".encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": text})

    def refusal(self, scope: Scope) -> str:
        """Why a request is refused, "" if it is not."""
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not self._is_own(_host_name(hosts[0])):
            return "its Host is not this page's; open the page at the address that `clora serve` prints"
        if any(not _same_origin(origin, hosts[0]) for origin in _values(scope, b"origin")):
            return "it comes from another website"
        foreign = any(site not in _OWN_SITE for site in _values(scope, b"sec-fetch-site"))
        if foreign and not _is_link(scope):
            return "it comes from another website"
        return ""

    def _is_own(self, name: str) -> bool:
        if name in self._names:
            return bool(name)
        # Listening on every address, the page has all of this machine's; rebinding needs a name, not an address.
        return self._host in _ALL_ADDRESSES and _is_address(name)


def _values(scope: Scope, name: bytes) -> list[str]:
    """All values of a header, in lower case."""
    return [value.decode("latin-1").strip().lower() for key, value in scope.get("headers", ()) if key.lower() == name]


def _host_name(host: str) -> str:
    """The name in a Host header without its port, "" if it cannot be read."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  raises for a port that is no number
        return parts.hostname or "" if parts.netloc == host and "@" not in host else ""
    except ValueError:
        return ""


def _same_origin(origin: str, host: str) -> bool:
    # A proxy in front of the page may use https.
    return origin in (f"http://{host}", f"https://{host}")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_link(scope: Scope) -> bool:
    """Whether the user follows a link to the page itself: a window of its own, not a frame."""
    to_window = _values(scope, b"sec-fetch-dest") == ["document"] and _values(scope, b"sec-fetch-mode") == ["navigate"]
    return to_window and scope.get("method") == "GET" and scope.get("path") == "/"


def _not_framed(send: Send) -> Send:
    """`send` that forbids other websites to show the page in a frame, where they could place clicks."""

    async def framed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (b"content-security-policy", b"frame-ancestors 'self'")]
            message = {**message, "headers": headers}
        await send(message)

    return framed
