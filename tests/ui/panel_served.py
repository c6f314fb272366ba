"""The panel on a page of its own, served until the process ends, in the gradio that comes first on the path.

Usage: python -m tests.ui.panel_served a1111|forge LORA_FOLDER PORT
"""

from __future__ import annotations

import json
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


def add_jobs(gr: Any, generate: Any, inputs: list[Any]) -> None:
    """What the host adds below: the seed, and Generate, which tells of each job here what it was asked.

    A job with the seed -2 fails and tells nothing.
    """
    seed = gr.Number(-1, precision=0, elem_id="txt2img_seed")
    told = gr.Textbox(elem_id="generation_info_txt2img")

    def job(seed: float, enabled: bool, *values: Any) -> str:
        if seed == -2:
            raise gr.Error("a job that fails")
        asked = {"enabled": enabled, "plan": values[-1], "count": len(values)}
        return json.dumps({"seed": 77 if seed < 0 else seed, **asked})

    generate.click(job, [seed, *inputs], told)


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
        inputs = build(gr, script, "txt2img")
        add_jobs(gr, script.boxes["generate"], inputs)
    page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, show_api=False)
    print("The panel is there:", PROMPT, flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    with installed():
        serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
