"""The panel on a page of its own, served until the process ends, in the gradio that comes first on the path.

Usage: python -m tests.ui.panel_served a1111|forge LORA_FOLDER PORT
"""

from __future__ import annotations

import os
import runpy
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from tests.standin import installed
from tests.ui.panel_in_gradio import PROMPT, ROOT, build, write_loras

STYLE = """
const style = document.createElement("style");
style.textContent = arguments[0];
document.head.append(style);
"""
SHIM = """
window.gradioApp = () => document;
window.onUiLoaded = (listener) => setTimeout(listener, 0);
const listeners = [];
window.onAfterUiUpdate = (listener) => listeners.push(listener);
new MutationObserver(() => listeners.forEach((listener) => listener())).observe(document.documentElement, {
    childList: true, subtree: true,
});
"""
"""What the panel's script needs of a WebUI."""


def page_style() -> str:
    """The panel's style sheet, as hosts have it: not among gradio's own styles."""
    return (ROOT / "style.css").read_text("utf-8")


def page_script() -> str:
    """The panel's scripts, to be run once the page is built."""
    return SHIM + "".join(path.read_text("utf-8") for path in sorted((ROOT / "javascript").glob("*.js")))


def serve(host: str, folder: Path, port: int) -> None:
    """Build a txt2img tab with the panel and serve it."""
    import gradio as gr
    from modules import paths_internal, scripts, shared, tiny_a1111, tiny_forge

    shared.sd_model = (tiny_a1111 if host == "a1111" else tiny_forge).load()
    write_loras(folder, shared.sd_model)
    paths_internal.data_path = str(folder)
    shared.prompt_styles.styles["dog"] = ("{prompt}\nand a <lora:dog:1> dog", "")
    shared.opts.enable_prompt_comments = True
    names = runpy.run_path(str(ROOT / "scripts" / "clora.py"))
    (kind,) = (one for one in names.values() if isinstance(one, type) and issubclass(one, scripts.Script))
    script: Any = kind()
    script.is_txt2img = True
    with gr.Blocks(analytics_enabled=False) as page:
        build(gr, script, "txt2img")
    page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, show_api=False)
    print("The panel is there:", PROMPT, flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    with installed():
        serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
