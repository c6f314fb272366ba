"""Scripts and what calls them: an exception of a script is logged and the job goes on without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modules import errors

AlwaysVisible = object()
scripts_data: list[Any] = []


class Script:
    """The base class of scripts; each method does nothing."""

    name: str | None = None
    is_txt2img = is_img2img = False
    infotext_fields: list[Any] | None = None
    paste_field_names: list[str] | None = None

    def before_process(self, p: Any, *args: Any) -> None: ...

    def process(self, p: Any, *args: Any) -> None: ...

    def before_process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def after_extra_networks_activate(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def postprocess_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None: ...


class ScriptRunner:
    """The always-visible scripts of a job with their arguments."""

    def __init__(self, scripts: Sequence[tuple[Script, Sequence[Any]]] = ()) -> None:
        self.alwayson = list(scripts)

    def call(self, hook: str, p: Any, *given: Any, **kwargs: Any) -> None:
        """Call one method of every script."""
        for script, args in self.alwayson:
            try:
                getattr(script, hook)(p, *given, *args, **kwargs)
            except Exception:
                errors.report(f"Error running {hook}", exc_info=True)
