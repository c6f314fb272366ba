"""Generation parameters as text, as the WebUI writes them into its pictures."""

from __future__ import annotations

from collections.abc import Mapping

from .settings import SETTINGS, Setting, Settings

PREFIX = "CLoRA"


def infotext_fields(settings: Settings) -> dict[str, str]:
    """CLoRA's fields for the infotext: `CLoRA: on` and every setting that differs from its default."""
    changed = settings.changed()
    fields = {PREFIX: "on"}
    for setting in SETTINGS:
        if setting.name in changed:
            fields[field_name(setting)] = setting.text(changed[setting.name])
    return fields


def field_name(setting: Setting) -> str:
    """The setting's key in an infotext."""
    return f"{PREFIX} {setting.label.lower()}"


def quote(value: str) -> str:
    """A value as the WebUI's parser wants it: in double quotes when it holds a comma, a colon or a line break."""
    if not any(mark in value for mark in ',:\n"'):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def infotext(prompt: str, negative: str, fields: Mapping[str, object]) -> str:
    """Prompt, negative prompt and fields in the WebUI's layout."""
    lines = [prompt]
    if negative:
        lines.append(f"Negative prompt: {negative}")
    lines.append(", ".join(f"{name}: {quote(str(value))}" for name, value in fields.items()))
    return "\n".join(lines)
