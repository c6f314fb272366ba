"""What A1111 and Forge have in common: job state, options, LoRA files, prompts, callbacks.

It imports the WebUI's `modules.*`, as `a1111/`, `forge/`, `model_factory.py`, `baseline_render.py`, `detail_render.py`
and `preview.py` do, and can be imported inside a WebUI only.
"""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import Depends, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import errors, paths_internal, script_callbacks, scripts, sd_samplers, sd_samplers_common, shared
from modules.prompt_parser import SdConditioning

from ..conditioning.encoding import Encoded
from ..conditioning.timetable import PromptSteps
from ..errors import CLoRAError, cut

__all__ = ["AlwaysVisible", "Script", "SdConditioning", "script_callbacks", "scripts"]

_COMMENTS = (re.compile(r"(?:\A|\n)#[^\n]*(?:\n|\Z)"), re.compile(r"#[^\n]*(?:\n|\Z)"))
"""Whole lines first, then the ends of lines."""

Script = scripts.Script
AlwaysVisible = scripts.AlwaysVisible


class RefusedError(CLoRAError, HTTPException):  # type: ignore[misc]
    """An error that ends the job: the API answers 422 with its message, the page shows it."""

    def __init__(self, message: str) -> None:
        HTTPException.__init__(self, 422, message)
        self.args = (message,)

    def __str__(self) -> str:
        return str(self.detail)


# The page shows the class's name before the message.
RefusedError.__name__ = "CLoRA"


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a CLoRAError raised while sampling into a `RefusedError`, which the WebUI passes on."""
    try:
        yield
    except RefusedError:
        raise
    except CLoRAError as error:
        raise RefusedError(str(error)) from error


def input_accordion() -> Any:
    """The accordion with a checkbox in its title; imported late, because reloading the page makes a new class."""
    from modules.ui_components import InputAccordion

    return InputAccordion


def option(name: str, default: Any) -> Any:
    """An option of the WebUI, or `default` in a version without it."""
    return getattr(shared.opts, name, default)


def add_option(name: str, default: Any, label: str, component: Any, arguments: Any = None) -> None:
    """Add an option to the section "CLoRA" of the WebUI's settings page.

    `arguments` are those of the component, or a function that returns them each time the page is built.
    """
    section = ("clora", "CLoRA")
    shared.opts.add_option(name, shared.OptionInfo(default, label, component, arguments, section=section))


def rename_value(name: str, former: Mapping[str, str]) -> None:
    """Give a stored option that has one of the former values its new one.

    Its drop-down does not have the former value, and gradio 4 then refuses to store the whole settings page.
    """
    stored = getattr(shared.opts, "data", {})
    value = stored.get(name)
    if isinstance(value, str) and value in former:
        stored[name] = former[value]


def data_folder() -> Path:
    """The folder of the WebUI's own settings."""
    return Path(paths_internal.data_path)


def stop_if_interrupted() -> None:
    """End the sampling as the host does if the user has interrupted or skipped."""
    if shared.state.interrupted or shared.state.skipped:
        raise sd_samplers_common.InterruptedException


def interrupt() -> None:
    """End the job after its current step, as the user's click on Interrupt does."""
    shared.state.interrupt()


def loses_errors(p: Any) -> bool:
    """Whether the host only prints an exception of this job (the page's jobs in reForge and Forge Classic).

    Forge and Neo keep the last exception of the thread that draws, and show it.
    """
    thread = sys.modules.get("modules_forge.main_thread")
    return thread is not None and not hasattr(thread, "last_exception") and not getattr(p, "is_api", False)


def show_progress(text: str) -> None:
    """Show a line under the progress bar."""
    shared.state.textinfo = text


def log_error(text: str) -> None:
    """Print a line and the traceback to the console."""
    errors.report(text, exc_info=True)


def api_dependencies() -> list[Any]:
    """The host's password check (`--api-auth`) for CLoRA's routes, because the host protects its own routes only."""
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
            "CLoRA finds LoRA files through the WebUI's built-in Lora extension, which is off: turn it on."
        ) from None
    return networks


class HostLoras(Mapping[str, Path]):
    """LoRA names and aliases -> files, as the host lists them; it lists again if a name or its file is missing."""

    def __init__(self) -> None:
        self._networks = _networks()

    def _entries(self) -> dict[str, Any]:
        return {**self._networks.available_network_aliases, **self._networks.available_networks}

    def entry(self, name: str) -> Any:
        """The host's record of a LoRA. Raises: KeyError."""
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
        """The hash that "Lora hashes" in the infotext shows, "" if there is none."""
        entry = self.entry(name)
        entry.read_hash()
        return entry.shorthash or ""


def without_comments(text: str) -> str:
    """A prompt as the WebUI reads it: without `# comments`, if it has the option and the option is on.

    Source: modules/processing_scripts/comments.py of AUTOMATIC1111 1.10. Scripts get prompts without comments; only a
    prompt from the panel or the API still has them.
    """
    for comment in _COMMENTS if option("enable_prompt_comments", False) else ():
        text = comment.sub("\n", text)
    return text


def with_styles(prompt: str, negative: str, names: Sequence[str]) -> tuple[str, str]:
    """Both prompts with the texts of the selected styles, as the WebUI merges them before it draws.

    Raises: CLoRAError if the WebUI cannot merge them.
    """
    known = getattr(shared, "prompt_styles", None)
    if known is None or not names:
        return prompt, negative
    try:
        return known.apply_styles_to_prompt(prompt, names), known.apply_negative_styles_to_prompt(negative, names)
    except Exception as error:  # Forge lists headings among the styles, which have no text
        listed = ", ".join(f'"{cut(name)}"' for name in names)
        raise CLoRAError(f"The WebUI cannot use the selected styles {listed}: choose others.") from error


def prompt_steps(p: Any, hires: bool) -> PromptSteps:
    """The steps of prompt scheduling in a pass.

    Both hosts count evaluations, and keep each text for one evaluation more than its schedule says.
    """
    from_noise = not hires and not getattr(p, "init_images", None)
    return PromptSteps(_evaluations(p, hires), _evaluations(p, False) if hires else None, 1, from_noise)


def guidance_scale(p: Any, hires: bool) -> float:
    """The scale of a pass; Forge has another one for hires passes."""
    return float(getattr(p, "hr_cfg", p.cfg_scale) if hires else p.cfg_scale)


def _evaluations(p: Any, hires: bool) -> int:
    """The number of evaluations that the host expects in a pass."""
    names = (getattr(p, "hr_sampler_name", None), p.sampler_name) if hires else (p.sampler_name,)
    steps = (getattr(p, "hr_second_pass_steps", 0) or p.steps) if hires else p.steps
    config = sd_samplers.find_sampler_config(next((name for name in names if name), None))
    return int(config.total_steps(steps)) if config else int(steps)


def encode(sd_model: Any, texts: Sequence[str], *, negative: bool, width: int, height: int) -> list[Encoded]:
    """Contexts (L, D) and SDXL's vectors (A,) by the host's own text encoders, one for each text."""
    asked = SdConditioning(list(texts), width=width, height=height, is_negative_prompt=negative)
    conditioning = sd_model.get_learned_conditioning(asked)
    if isinstance(conditioning, dict):
        pairs = zip(conditioning["crossattn"], conditioning["vector"], strict=True)
        return [Encoded(context, vector) for context, vector in pairs]
    return [Encoded(context, None) for context in conditioning]


def xyz_module() -> Any | None:
    """The module of the X/Y/Z plot script, None if it is not loaded."""
    return next((data.module for data in scripts.scripts_data if data.path.endswith("xyz_grid.py")), None)
