"""Starts the page's server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from ..errors import CLoRAError
from .engine import Engine
from .guard import Guard
from .session import Session

PORT = 7861
"""Not 7860, which a WebUI uses."""
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def assets() -> tuple[str, str]:
    """The scripts for the page's head, and its style sheet: the extension's files and the page's own."""
    try:
        scripts = [HERE / "page.js", *sorted((ROOT / "javascript").glob("*.js"))]
        head = "".join(f"<script>{path.read_text('utf-8')}</script>" for path in scripts)
        return head, "".join(path.read_text("utf-8") for path in (ROOT / "style.css", HERE / "page.css"))
    except OSError as error:
        raise CLoRAError(
            f"The page needs {error.filename}, which is missing: run `make serve` in a clone of the repository."
        ) from None


def check_gradio() -> Any:
    """The gradio package. Raises: CLoRAError if it is not installed or too old."""
    # No telemetry, and no proxy between gradio and its own server.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    for name in ("NO_PROXY", "no_proxy"):
        known = os.environ.get(name, "")
        os.environ[name] = f"{known},127.0.0.1,localhost" if known else "127.0.0.1,localhost"
    try:
        import gradio
    except ImportError:
        raise CLoRAError("The page needs gradio 4, which is not installed: `make serve` installs it and starts the "
                         "page.") from None  # fmt: skip
    version = str(gradio.__version__)
    if int(version.partition(".")[0]) < 4:
        raise CLoRAError(f"The page needs gradio 4, but {version} is installed: start it with `make serve`.")
    return gradio


class _Lifespan(Protocol):
    def __call__(self, app: Any) -> AbstractAsyncContextManager[None]: ...


def guarded(host: str) -> _Lifespan:
    """The start event of gradio's server that puts the guard around all of it."""

    @asynccontextmanager
    async def start(app: Any) -> AsyncIterator[None]:
        # Around the finished stack: gradio adds its CORS middleware last, which answers preflights itself.
        app.middleware_stack = Guard(app.middleware_stack, host)
        yield

    return start


def serve(host: str, port: int, session: Session, presets: Path, device: str | None = None) -> None:
    """Serve the page until the process ends; `presets` is the file of the user's presets.

    Raises: CLoRAError if gradio, a file, the model or the port cannot be used.
    """
    check_gradio()
    head, css = assets()
    engine = Engine(device)
    engine.load(session.model)
    from .layout import Page

    blocks = Page(engine, session, head, css, presets).blocks
    try:
        blocks.queue().launch(
            server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, show_api=False,
            app_kwargs={"lifespan": guarded(host)},
        )  # fmt: skip
    except (OSError, OverflowError):
        raise CLoRAError(f"The port {port} on {host} cannot be used: choose another with --port.") from None
    print(f"The page is at http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port} (Ctrl+C stops it).", flush=True)
    blocks.block_thread()
