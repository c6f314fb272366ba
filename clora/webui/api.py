"""Routes below /clora/v1: the schema of the settings, the report on a prompt, the version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import __version__
from ..errors import CLoRAError
from ..hosts import host_api
from ..settings import PRESETS, SETTINGS, Setting
from ..ui.corrections import CORRECTION_FIELDS
from ..ui.report import Report

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
        "preset": {"type": "string", "enum": list(PRESETS), "default": "default"},
        "corrections": {"type": "object", "additionalProperties": correction, "default": {}},
    }
    properties |= {setting.name: setting_schema(setting) for setting in SETTINGS}
    return {"title": "CLoRA", "type": "object", "additionalProperties": False, "properties": properties}


def add_routes(app: Any, read: Callable[[str, str, Any], Report]) -> None:
    """Add the routes to the host's server, with the same password check as its own routes."""
    from fastapi import Body, HTTPException

    dependencies = host_api.api_dependencies()

    def version() -> dict[str, str]:
        return {"version": __version__}

    def analyze(body: Any = Body(...)) -> dict[str, Any]:  # noqa: B008
        try:
            prompt, negative, corrections = _analyze_fields(body)
        except CLoRAError as error:
            raise HTTPException(422, str(error)) from None
        # Without the host's queue, which a picture holds while it is drawn: only text is read.
        return read(prompt, negative, corrections).as_json()

    app.add_api_route("/clora/v1/settings", settings_schema, methods=["GET"], dependencies=dependencies)
    app.add_api_route("/clora/v1/version", version, methods=["GET"], dependencies=dependencies)
    app.add_api_route("/clora/v1/analyze", analyze, methods=["POST"], dependencies=dependencies)


def _analyze_fields(body: Any) -> tuple[str, str, Any]:
    """prompt, negative_prompt and corrections of a request. Raises: CLoRAError with the name of a wrong field."""
    fields = ("prompt", "negative_prompt", "corrections")
    if not isinstance(body, dict) or not isinstance(body.get("prompt"), str):
        raise CLoRAError('The body has no field prompt: send {"prompt": "a <lora:name:1> cat and ..."}.')
    unknown = [name for name in body if name not in fields]
    if unknown:
        raise CLoRAError(f"There is no field {unknown[0]!r}: use {', '.join(fields)}.")
    negative = body.get("negative_prompt", "")
    if not isinstance(negative, str):
        raise CLoRAError(f"The field negative_prompt must be text, not {negative!r}.")
    return body["prompt"], negative, body.get("corrections", "")
