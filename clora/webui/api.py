"""Routes below /clora/v1: the schema of the settings, the report on a prompt, the version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import __version__
from ..engine.plans import MAX_NAME
from ..errors import CLoRAError, printable, shown
from ..hosts import host_api
from ..settings import PRESETS, SETTINGS, START, Setting
from ..ui.corrections import CORRECTION_FIELDS
from ..ui.report import Report

MAX_TEXT = 100_000
"""Characters of a prompt."""
MAX_STYLES = 100
_TYPES = {"float": "number", "int": "integer", "bool": "boolean", "choice": "string", "fractions": "array"}


def setting_schema(setting: Setting) -> dict[str, Any]:
    """JSON schema of one setting."""
    schema: dict[str, Any] = {
        "type": _TYPES[setting.kind], "title": setting.label, "description": setting.help,
        "default": list(setting.default) if setting.kind == "fractions" else setting.default,
    }  # fmt: skip
    if setting.kind in ("float", "int"):
        schema |= {"minimum": setting.low, "maximum": setting.high}
    if setting.kind == "choice":
        schema["enum"] = list(setting.choices)
    if setting.kind == "fractions":
        schema["items"] = {"type": "number", "minimum": 0, "maximum": 1}
    return schema


def settings_schema() -> dict[str, Any]:
    """JSON schema of the object that goes into `alwayson_scripts.CLoRA.args[0]`."""
    correction = {"type": "object", "properties": {name: {"type": "string"} for name in CORRECTION_FIELDS}}
    properties: dict[str, Any] = {
        "enabled": {
            "type": "boolean",
            "default": True,
            "description": "True turns CLoRA on; with false the picture is the same as without CLoRA.",
        },
        "preset": {"type": "string", "enum": list(PRESETS), "default": START},
        "corrections": {"type": "object", "additionalProperties": correction, "default": {}},
        "plan": {
            "type": "string", "maxLength": MAX_NAME, "default": "",
            "description": "The name of a plan: one to go on from, or with plan_only the one to make.",
        },
        "plan_only": {
            "type": "boolean",
            "default": False,
            "description": "True ends the job after its look-ahead, with the rough picture and the masks.",
        },
    }  # fmt: skip
    properties |= {setting.name: setting_schema(setting) for setting in SETTINGS}
    return {"title": "CLoRA", "type": "object", "additionalProperties": False, "properties": properties}


def add_routes(app: Any, read: Callable[[str, str, Any, Sequence[str]], Report]) -> None:
    """Add the routes to the host's server, with the same password check as its own routes."""
    from fastapi import Body, HTTPException

    dependencies = host_api.api_dependencies()

    def version() -> dict[str, str]:
        return {"version": __version__}

    def analyze(body: Any = Body(...)) -> dict[str, Any]:  # noqa: B008
        try:
            fields = _analyze_fields(body)
        except CLoRAError as error:
            raise HTTPException(422, str(error)) from None
        try:
            # Without the host's queue, which a picture holds while it is drawn: only text is read.
            return {name: _encodable(one) for name, one in read(*fields).as_json().items()}
        except Exception as error:
            host_api.log_error("CLoRA failed")
            text = f"CLoRA failed ({type(error).__name__}: {shown(str(error))}): see the console, and please report it."
            raise HTTPException(422, text) from error

    app.add_api_route("/clora/v1/settings", settings_schema, methods=["GET"], dependencies=dependencies)
    app.add_api_route("/clora/v1/version", version, methods=["GET"], dependencies=dependencies)
    app.add_api_route("/clora/v1/analyze", analyze, methods=["POST"], dependencies=dependencies)


def _analyze_fields(body: Any) -> tuple[str, str, Any, list[str]]:
    """prompt, negative_prompt, corrections and styles of a request. Raises: CLoRAError that names a wrong field."""
    fields = ("prompt", "negative_prompt", "corrections", "styles")
    if not isinstance(body, dict) or not isinstance(body.get("prompt"), str):
        raise CLoRAError('The body has no field prompt: send {"prompt": "a <lora:name:1> cat and ..."}.')
    unknown = [name for name in body if name not in fields]
    if unknown:
        raise CLoRAError(f"There is no field {shown(unknown[0])}: use {', '.join(fields)}.")
    negative = body.get("negative_prompt", "")
    if not isinstance(negative, str):
        raise CLoRAError(f"The field negative_prompt must be text, not {shown(negative)}.")
    for name, text in (("prompt", body["prompt"]), ("negative_prompt", negative)):
        if len(text) > MAX_TEXT:
            raise CLoRAError(f"The field {name} has {len(text)} characters: use at most {MAX_TEXT}.")
    styles = body.get("styles") or []
    if not isinstance(styles, list) or not all(isinstance(name, str) for name in styles) or len(styles) > MAX_STYLES:
        raise CLoRAError(f"The field styles must be a list of at most {MAX_STYLES} names, not {shown(styles)}.")
    return printable(body["prompt"]), printable(negative), body.get("corrections", ""), styles


def _encodable(value: Any) -> Any:
    """The answer without lone surrogates, which corrections and file names can have and UTF-8 cannot."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(key)): _encodable(one) for key, one in value.items()}
    return [_encodable(one) for one in value] if isinstance(value, list | tuple) else value
