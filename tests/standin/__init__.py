"""A stand-in for a WebUI: our own small code with the names, the order of calls and the habits of A1111 and Forge.

`host/` is put on the path for the time of a test and holds the packages that CLoRA imports from a WebUI. Nothing in it
is taken from a WebUI; it follows what was observed of them. What fails here fails there; the reverse needs a real
WebUI (tests/hosts/test_webui.py).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

HOST = Path(__file__).parent / "host"
_BOUND = ("modules", "adetailer", "backend", "ldm_patched", "networks", "gradio", "clora.hosts.", "clora.webui.")


@contextmanager
def installed() -> Iterator[None]:
    """The host's modules can be imported in this block; they and what was imported on top of them go afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(HOST))
    if "gradio" not in sys.modules and importlib.util.find_spec("gradio") is None:
        # Drawing needs no page: the panel's own tests have the real one.
        sys.modules["gradio"] = ModuleType("gradio")
    try:
        yield
    finally:
        sys.path.remove(str(HOST))
        for name in set(sys.modules) - before:
            if name.startswith(_BOUND):
                module = sys.modules.pop(name)
                parent, _, child = name.rpartition(".")
                if getattr(sys.modules.get(parent), child, None) is module:
                    delattr(sys.modules[parent], child)
