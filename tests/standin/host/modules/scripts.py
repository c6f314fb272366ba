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
    filename = ""
    is_txt2img = is_img2img = False
    args_from = args_to = 0
    infotext_fields: list[Any] | None = None
    paste_field_names: list[str] | None = None

    def before_process(self, p: Any, *args: Any) -> None: ...

    def process(self, p: Any, *args: Any) -> None: ...

    def before_process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def after_extra_networks_activate(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def postprocess_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None: ...

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None: ...


class ScriptRunner:
    """The always-visible scripts of a job with their arguments, and the script that the user has selected."""

    def __init__(self, scripts: Sequence[tuple[Script, Sequence[Any]]] = (), selected: Any = None) -> None:
        self._values = [value for _, args in scripts for value in args]
        self.selectable_scripts = [] if selected is None else [selected]
        self.alwayson_scripts = [script for script, _ in scripts]
        first = 1
        for script, args in scripts:
            script.args_from, script.args_to = first, first + len(args)
            first += len(args)

    def arguments(self) -> tuple[Any, ...]:
        """Of all scripts, one after the other."""
        return (len(self.selectable_scripts), *self._values)

    def before_process(self, p: Any) -> None:
        """The first method of a job that is called."""
        self.call("before_process", p)

    def postprocess_image(self, p: Any, pp: Any) -> None:
        """One picture is decoded and not saved yet."""
        self.call("postprocess_image", p, pp)

    def run(self, p: Any, *args: Any) -> Any:
        """The result of the selected script, which makes all pictures itself; None without one."""
        return self.selectable_scripts[args[0] - 1].run(p) if args[0] else None

    def call(self, hook: str, p: Any, *given: Any, **kwargs: Any) -> None:
        """Call one method of every script."""
        for script in self.alwayson_scripts:
            try:
                getattr(script, hook)(p, *given, *p.script_args[script.args_from : script.args_to], **kwargs)
            except Exception:
                errors.report(f"Error running {hook}", exc_info=True)
