"""The accordion with a tick in its title: a class in A1111, a function in Forge.

Its value is that of a hidden checkbox, and a Python `with` puts components into its body.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

if getattr(gr, "__version__", "").startswith("3."):

    class InputAccordionClass(gr.Checkbox):
        """A1111's: a checkbox that owns an accordion."""

        def __init__(self, value: bool, **kwargs: Any) -> None:
            label = kwargs.pop("label", "")
            super().__init__(value, visible=False, **kwargs)
            self.accordion = gr.Accordion(label, open=value)

        def __enter__(self) -> InputAccordionClass:
            self.accordion.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self.accordion.__exit__(*error)

        def get_block_name(self) -> str:
            """The page draws it as a checkbox."""
            return "checkbox"


def input_accordion_function(value: bool | None = None, **kwargs: Any) -> Any:
    """Forge's: an accordion whose `with` gives a checkbox."""
    label = kwargs.pop("label", "")
    checkbox = gr.Checkbox(bool(value), visible=False, **kwargs)
    accordion = gr.Accordion(label, open=bool(value))

    class Body:
        def __enter__(self) -> Any:
            accordion.__enter__()
            return checkbox

        def __exit__(self, *error: Any) -> None:
            accordion.__exit__(*error)

    return Body()


InputAccordion: Any = globals().get("InputAccordionClass", input_accordion_function)
