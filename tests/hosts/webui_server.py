"""A WebUI to test against: one that runs (CLORA_WEBUI_URL) or one that is installed (CLORA_WEBUI_DIR)."""

from __future__ import annotations

import base64
import io
import json
import os
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image


class ApiError(Exception):
    """An answer that is no picture."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.sentence = str(body.get("detail") or body.get("errors") or body.get("message") or "")


@dataclass(frozen=True)
class Answer:
    """Pictures, infotexts and CLoRA's notes of one job."""

    images: list[Image.Image]
    infotexts: list[str]
    notes: str = ""

    @property
    def pixels(self) -> bytes:
        """The first picture's pixels, to compare bit by bit."""
        return self.images[0].convert("RGB").tobytes()


@dataclass(frozen=True)
class Server:
    """A WebUI's API."""

    url: str
    auth: str = field(default_factory=lambda: os.environ.get("CLORA_WEBUI_API_AUTH", ""))

    def call(self, path: str, body: Any = None, timeout: float = 900) -> Any:
        """JSON answer of a route. Errors: ApiError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.auth:
            headers["Authorization"] = "Basic " + base64.b64encode(self.auth.encode()).decode()
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            raise ApiError(error.code, json.loads(text) if text.startswith("{") else {"detail": text}) from None

    def draw(self, prompt: str, clora: dict[str, Any] | None = None, path: str = "txt2img", **fields: Any) -> Answer:
        """One job; `clora` are the extension's fields, None leaves them out of the request."""
        body = {
            "prompt": prompt, "seed": 1, "steps": 6, "width": 256, "height": 256, "cfg_scale": 4,
            "sampler_name": "Euler", "scheduler": "Automatic", **fields,
        }  # fmt: skip
        if clora is not None:
            body["alwayson_scripts"] = {"CLoRA": {"args": [clora]}}
        found = self.call(f"/sdapi/v1/{path}", body)
        images = [Image.open(io.BytesIO(base64.b64decode(image))) for image in found["images"]]
        info = json.loads(found["info"])
        return Answer(images, info["infotexts"], str(info["extra_generation_params"].get("CLoRA notes", "")))

    def plot(self, **axes: tuple[str, str]) -> dict[str, Any]:
        """Fields of an X/Y/Z plot over `x`, `y` and `z`, each an axis by its label and its values as they are typed.

        Positions and defaults of the script's arguments are the host's own: they differ between hosts.
        """
        arguments = self._plot_arguments()
        values = [[] if one["value"] is None else one["value"] for one in arguments]
        labels = [one["label"] for one in arguments]
        for number, one in enumerate(arguments):
            if one["label"].endswith(" type"):
                values[number] = one["choices"].index(axes.get(one["label"][0].lower(), ("Nothing", ""))[0])
        for name, (_, typed) in axes.items():
            values[labels.index(f"{name.upper()} values")] = typed
        return {"script_name": "x/y/z plot", "script_args": values}

    def axes(self) -> list[str]:
        """The labels of all axes of the X/Y/Z plot."""
        return [str(label) for label in self._plot_arguments()[0]["choices"]]

    def _plot_arguments(self) -> list[dict[str, Any]]:
        self.call("/sdapi/v1/scripts")
        known = self.call("/sdapi/v1/script-info")
        return next(one["args"] for one in known if "x/y/z" in one["name"] and not one["is_img2img"])


def encoded(image: Image.Image) -> str:
    """A picture as the API takes it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@contextmanager
def running_server() -> Iterator[Server | None]:
    """The WebUI that the environment names, None without one."""
    if os.environ.get("CLORA_WEBUI_URL"):
        yield Server(os.environ["CLORA_WEBUI_URL"].rstrip("/"))
    elif os.environ.get("CLORA_WEBUI_DIR"):
        with _started(Path(os.environ["CLORA_WEBUI_DIR"])) as server:
            yield server
    else:
        yield None


@contextmanager
def _started(folder: Path) -> Iterator[Server]:
    """An installed WebUI, started with its own Python and `CLORA_WEBUI_ARGS`, ended afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    python = next((p for p in (folder / "venv/bin/python", folder / "venv/Scripts/python.exe") if p.exists()), "python")
    arguments = shlex.split(os.environ.get("CLORA_WEBUI_ARGS", ""))
    command = [str(python), "launch.py", "--api", "--port", str(port), *arguments]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Server(f"http://127.0.0.1:{port}")
    try:
        # The list of LoRAs is the last thing that answers while a WebUI starts.
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"the WebUI in {folder} ended while it started: run it by hand to see why")
            try:
                server.call("/sdapi/v1/loras", timeout=5)
                break
            except (ApiError, OSError):
                time.sleep(1)
        yield server
    finally:
        process.terminate()
        process.wait(30)
