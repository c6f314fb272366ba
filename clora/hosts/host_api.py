"""The front that A1111 and Forge share: job state, options, LoRA files, prompts, callbacks.

With `a1111.py`, `forge/` and `loaded.py` all that imports the WebUI's `modules.*`; imported inside a WebUI only.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import Depends, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import errors, paths_internal, script_callbacks, scripts, sd_samplers, sd_samplers_common, shared
from modules.call_queue import queue_lock
from modules.prompt_parser import SdConditioning

from ..errors import CLoRAError
from ..lora.file import read_metadata
from ..lora.user_metadata import LoraNotes, read_notes
from .protocol import Encoded

__all__ = ["AlwaysVisible", "Script", "SdConditioning", "queue_lock", "script_callbacks", "scripts"]

Script = scripts.Script
AlwaysVisible = scripts.AlwaysVisible


class RefusedError(CLoRAError, HTTPException):  # type: ignore[misc]
    """A user's mistake on its way out of the WebUI: the API answers 422 with the sentence, the page shows it."""

    def __init__(self, message: str) -> None:
        HTTPException.__init__(self, 422, message)
        self.args = (message,)

    def __str__(self) -> str:
        return str(self.detail)


# The page puts the class's name before the sentence.
RefusedError.__name__ = "CLoRA"


@contextmanager
def refusing() -> Iterator[None]:
    """A user's mistake that shows while sampling leaves the WebUI as a `RefusedError`."""
    try:
        yield
    except RefusedError:
        raise
    except CLoRAError as error:
        raise RefusedError(str(error)) from error


def input_accordion() -> Any:
    """The accordion with a tick in its title; imported late, because reloading the page makes a new one."""
    from modules.ui_components import InputAccordion

    return InputAccordion


def option(name: str, default: Any) -> Any:
    """An option of the WebUI, which other versions may lack."""
    return getattr(shared.opts, name, default)


def add_option(name: str, default: Any, label: str, component: Any, arguments: Any = None) -> None:
    """An option of ours on the WebUI's settings page, in a section of its own.

    `arguments` are those of the component, or a function that gives them each time the page is built.
    """
    section = ("clora", "CLoRA")
    shared.opts.add_option(name, shared.OptionInfo(default, label, component, arguments, section=section))


def data_folder() -> Path:
    """Where the WebUI keeps its own settings."""
    return Path(paths_internal.data_path)


def stop_if_interrupted() -> None:
    """Leave the sampling the way the host does when the user interrupts or skips."""
    if shared.state.interrupted or shared.state.skipped:
        raise sd_samplers_common.InterruptedException


def tell_progress(text: str) -> None:
    """The line under the progress bar."""
    shared.state.textinfo = text


def log_error(text: str) -> None:
    """A line and the traceback in the console."""
    errors.report(text, exc_info=True)


def api_dependencies() -> list[Any]:
    """What guards the host's own API routes (`--api-auth`), for ours: the host does not guard an extension's."""
    if not shared.cmd_opts.api_auth:
        return []
    pairs = [pair.split(":", 1) for pair in shared.cmd_opts.api_auth.split(",")]

    def check(credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008
        for user, password in pairs:
            same = secrets.compare_digest(credentials.username.encode(), user.encode())
            if secrets.compare_digest(credentials.password.encode(), password.encode()) and same:
                return
        raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})

    return [Depends(check)]


# ------------------------------------------------------------------------------------------------ LoRA files


def _networks() -> Any:
    """The built-in Lora extension's list of files, which is only read."""
    try:
        import networks
    except ImportError:
        raise CLoRAError(
            "The WebUI's built-in Lora extension is off, and CLoRA finds LoRA files through it: turn it on."
        ) from None
    return networks


class HostLoras(Mapping[str, Path]):
    """LoRA names and aliases -> files, as the host lists them; looked up again when a file is new or gone."""

    def __init__(self) -> None:
        self._networks = _networks()

    def _entries(self) -> dict[str, Any]:
        return {**self._networks.available_network_aliases, **self._networks.available_networks}

    def entry(self, name: str) -> Any:
        """The host's record of a LoRA. Errors: KeyError."""
        known = self._entries()
        if name not in known or not Path(known[name].filename).is_file():
            self._networks.list_available_networks()
            known = self._entries()
        if name not in known:
            by_case = {key.casefold(): key for key in known}
            name = by_case[name.casefold()]
        return known[name]

    def __getitem__(self, name: str) -> Path:
        return Path(self.entry(name).filename)

    def __iter__(self) -> Any:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def short_hash(self, name: str) -> str:
        """The hash that "Lora hashes" in the infotext shows, "" when there is none."""
        entry = self.entry(name)
        entry.read_hash()
        return entry.shorthash or ""

    def activation_texts(self, name: str) -> tuple[str, ...]:
        """The user's activation text (a .json beside the file), then the file's own trigger phrase."""
        try:
            path = self[name]
        except KeyError:
            return ()
        texts = [read_notes(path).activation]
        with suppress(CLoRAError):
            texts.append(read_metadata(path).get("modelspec.trigger_phrase", "").strip())
        return tuple(text for text in texts if text)

    def notes(self, name: str) -> LoraNotes:
        """The user's notes beside the file."""
        try:
            return read_notes(self[name])
        except KeyError:
            return LoraNotes()


def calls_of(p: Any, hires: bool) -> int:
    """How many evaluations the host counts on for a pass; prompt schedules run over these."""
    names = (getattr(p, "hr_sampler_name", None), p.sampler_name) if hires else (p.sampler_name,)
    steps = (getattr(p, "hr_second_pass_steps", 0) or p.steps) if hires else p.steps
    config = sd_samplers.find_sampler_config(next((name for name in names if name), None))
    return int(config.total_steps(steps)) if config else int(steps)


def encode(sd_model: Any, texts: Sequence[str], *, negative: bool, width: int, height: int) -> list[Encoded]:
    """Contexts (L, D) and SDXL's vectors (A,) by the host's own text encoders, one for each text."""
    wanted = SdConditioning(list(texts), width=width, height=height, is_negative_prompt=negative)
    found = sd_model.get_learned_conditioning(wanted)
    if isinstance(found, dict):
        return [Encoded(c, v) for c, v in zip(found["crossattn"], found["vector"], strict=True)]
    return [Encoded(context, None) for context in found]


def xyz_module() -> Any | None:
    """The loaded X/Y/Z plot script, if there is one."""
    return next((data.module for data in scripts.scripts_data if data.path.endswith("xyz_grid.py")), None)
