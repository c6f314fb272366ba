"""Run by test_panel_gradio.py with one of the hosts' gradio versions: the page on a server of its own, as JSON facts.

Usage: python -m tests.ui.panel_in_gradio a1111|forge LORA_FOLDER
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import urllib.error
import urllib.request
import warnings
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.standin import installed

PROMPT = "a <lora:cat:1> cat and a <lora:dog:1> dog on grass"
ROOT = Path(__file__).parents[2]


def call(url: str, body: Any = None) -> Any:
    """JSON of a route, or [status, JSON] where it is an error."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return [error.code, json.loads(error.read())]


def plain(update: Any) -> Any:
    """The value in a `gr.update`."""
    return update["value"] if isinstance(update, dict) else update


def build(gr: Any, script: Any, tab: str) -> list[Any]:
    """What the host builds of a tab: the boxes that scripts look for, then the script's own part."""
    boxes = {
        "styles_edit_select": gr.Dropdown(["dog"], label="Styles", elem_id=f"{tab}_styles_edit_select"),
        "styles": gr.Dropdown(["dog"], value=[], multiselect=True, label="Styles", elem_id=f"{tab}_styles"),
        "prompt": gr.Textbox(elem_id=f"{tab}_prompt"),
        "neg_prompt": gr.Textbox(elem_id=f"{tab}_neg_prompt"),
        "steps": gr.Slider(1, 150, value=20, step=1, elem_id=f"{tab}_steps"),
        "width": gr.Slider(64, 2048, value=512, step=8, interactive=True, elem_id=f"{tab}_width"),
        "height": gr.Slider(64, 2048, value=512, step=8, interactive=True, elem_id=f"{tab}_height"),
        "generate": gr.Button("Generate", elem_id=f"{tab}_generate"),
    }
    for box in boxes.values():
        script.after_component(box, elem_id=box.elem_id)
    return list(script.ui(script.is_img2img))


def describe(component: Any) -> list[Any]:
    """Kind, label, elem_id, value and the mark of what must not go into ui-config.json."""
    unsaved = getattr(component, "do_not_save_to_config", False)
    return [type(component).__name__, component.label, component.elem_id, component.value, unsaved]


def write_loras(folder: Path, model: Any) -> None:
    """Two LoRAs for the stand-in's model."""
    import networks

    from tests.hosts.tiny import write_lora

    parts = SimpleNamespace(unet=model.unet_module, text_encoder=model.text_module)
    for seed, name in enumerate(("cat", "dog")):
        write_lora(folder / f"{name}.safetensors", parts, seed)
    networks.folder = folder
    networks.list_available_networks()


def other_value(setting: Any) -> Any:
    """A value that is not the default."""
    if setting.kind == "bool":
        return not setting.default
    if setting.kind == "choice":
        return next(choice for choice in setting.choices if choice != setting.default)
    if setting.kind == "fractions":
        return (0.1, 0.3)
    return setting.default + 1 if setting.kind == "int" else round((setting.low + setting.high) / 2 + 0.01, 2)


def jobs(script: Any, defaults: list[Any]) -> dict[str, Any]:
    """Pictures by the panel's own values: off, on, and on by the API's object."""
    import torch
    from modules import errors, processing, scripts

    def draw(*given: tuple[Any, ...]) -> Any:
        runner = scripts.ScriptRunner([(script, args) for args in given])
        return processing.process_images(processing.Processing([PROMPT], scripts=runner, steps=2)).latents[0]

    absent, off, on, by_object = draw(), draw(tuple(defaults)), draw((True, *defaults[1:])), draw(({},))
    return {
        "off is as absent": torch.equal(absent, off),
        "on is another picture": not torch.equal(absent, on),
        "on is the object's": torch.equal(on, by_object),
        "errors": errors.reports,
    }


def facts(host: str, folder: Path) -> dict[str, Any]:
    """Everything that the test looks at."""
    import gradio as gr
    from modules import paths_internal, script_callbacks, scripts, shared, tiny_a1111, tiny_forge

    from clora.settings import FORMER, PRESETS, SETTINGS, Settings
    from clora.settings.infotext import infotext_fields

    shared.sd_model = (tiny_a1111 if host == "a1111" else tiny_forge).load()
    write_loras(folder, shared.sd_model)
    shared.prompt_styles.styles["dog"] = ("{prompt}\nand a <lora:dog:1> dog", "")
    shared.opts.enable_prompt_comments = True
    paths_internal.data_path = str(folder)
    names = runpy.run_path(str(ROOT / "scripts" / "clora.py"))
    classes = [one for one in names.values() if isinstance(one, type) and issubclass(one, scripts.Script)]
    for callback in (*script_callbacks.before_ui, *script_callbacks.ui_settings):
        callback()
    tabs = {"txt2img": classes[0](), "img2img": classes[0]()}
    tabs["txt2img"].is_txt2img = tabs["img2img"].is_img2img = True
    with gr.Blocks() as page:
        first = gr.State()
        inputs = {tab: build(gr, script, tab) for tab, script in tabs.items()}
        last = gr.State()
    fields = tabs["txt2img"].infotext_fields  # the host takes them at once
    again = []
    for _ in range(2):  # the host builds each script twice more, on pages that nobody sees
        with gr.Blocks():
            again.append([describe(component) for component in tabs["txt2img"].ui(False)])
    with gr.Blocks():
        stranger = classes[0]()
        stranger.is_txt2img = True
        without_boxes = [describe(component) for component in stranger.ui(False)]

    app, _, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, show_api=False)
    for callback in script_callbacks.app_started:
        callback(page, app)
    url = page.local_url.rstrip("/")
    config = call(f"{url}/config")
    by_id = {one["id"]: one for one in config["components"]}

    def run(elem_id: str, *data: Any) -> list[list[Any]]:
        """Call what is wired to a component over HTTP: the answers of each listener."""
        found = []
        for number, listener in enumerate(config["dependencies"]):
            sources = [target[0] if isinstance(target, list) else target for target in listener["targets"]]
            if any(by_id[source]["props"].get("elem_id") == elem_id for source in sources):
                answer = call(f"{url}/run/predict", {"fn_index": number, "data": list(data), "session_hash": "x"})
                found.append(answer["data"] if isinstance(answer, dict) else answer)
        return found

    values = [describe(component)[3] for component in inputs["txt2img"]]

    def told(prompt: str, **changed: Any) -> list[Any]:
        """What the page sends with the button."""
        settings = [changed.get(s.name, value) for s, value in zip(SETTINGS, values[1:], strict=False)]
        return [prompt, "", changed.get("corrections", ""), 20, *settings, changed.get("styles", [])]

    changed = Settings(**{setting.name: other_value(setting) for setting in SETTINGS})
    infotext = {**infotext_fields(changed), "CLoRA corrections": "cat: words=cat"}
    refresh, presets = "txt2img_clora_refresh", "txt2img_clora_preset"
    return {
        "gradio": gr.__version__,
        "script classes": len(classes),
        "title": tabs["txt2img"].title(),
        "inputs": {tab: [describe(component) for component in of] for tab, of in inputs.items()},
        "again": again,
        "without boxes": without_boxes,
        "presets": {name: [plain(v) for v in run(presets, name)[0][1:]] for name in (*PRESETS, *FORMER)},
        "own presets": own_presets(run, folder, shared),
        "options": {
            k: [i.label, i.default, i.component.__name__, i.section] for k, i in shared.opts.data_labels.items()
        },
        "read": run(refresh, *told(PROMPT)),
        "read wrong": run(refresh, *told("a <lora:cta:1> cat and a <lora:dog:1> dog")),
        "read nothing": run(refresh, *told("")),
        "read one in a place": run(refresh, *told("a <lora:cat:1:place=left> cat")),
        "read with wrong setting": run(refresh, *told(PROMPT, refine_at="soon")),
        "read corrected": run("txt2img_clora_corrections", *told(PROMPT, corrections="cat: words=grass")),
        "read wrongly corrected": run("txt2img_clora_corrections", *told(PROMPT, corrections="cat: words=cow")),
        "edited": run("txt2img_clora_cell", '{"lora": "cat", "key": "words", "value": "grass"}', "dog: words=dog"),
        "emptied": run("txt2img_clora_cell", '{"lora": "cat", "key": "words", "value": ""}', "cat: words=grass"),
        "edited wrong": run("txt2img_clora_cell", '{"lora": "cat"}', "cat: words=grass"),
        "written": run("txt2img_clora_write", PROMPT, "cat: words=cat, trigger=sks\ncow: words=dog"),
        "nothing to write": run("txt2img_clora_write", PROMPT, "cow: words=dog"),
        "wrong to write": run("txt2img_clora_write", PROMPT, "cat: trigger=<b>"),
        "generate": run("txt2img_generate", True, *told(PROMPT)),
        "generate while off": run("txt2img_generate", False, *told(PROMPT)),
        "said by the tag": run(refresh, *told(PROMPT.replace("cat:1", "cat:1:words=cat:role=concept"))),
        "read with a style": run(refresh, *told("a <lora:cat:1> cat # x", styles=["dog"])),
        "read in img2img": run("img2img_clora_refresh", *told(PROMPT)),
        # In the session of the last reading, which keeps the number of its concepts.
        "touched": {
            name: run("txt2img_clora_touched", None, 20, shown, *told(PROMPT, **changes)[4:-1])
            for name, (shown, changes) in {
                "as read": ("balanced", {}),
                "a former name": ("default (changed)", {}),
                "fast": ("fast", {"update_until": 0, "look_ahead": 0.1}),
                "changed": ("fast", {"update_until": 0.2, "look_ahead": 0.1}),
                "changed back": ("fast (changed)", {"update_until": 0, "look_ahead": 0.1}),
                "wrong": ("balanced", {"refine_at": "soon"}),
                "no preset": ("gone", {}),
            }.items()
        },
        "touched without concepts": [
            run(refresh, *told("")),
            run("txt2img_clora_touched", None, 20, "balanced", *told("")[4:-1]),
        ],
        "asks the page's script": asking(config, by_id),
        "restored order": [one is two for (one, _), two in zip(fields, inputs["txt2img"][:-1], strict=True)],
        "restored": [read(infotext) for _, read in fields],
        "restored defaults": [read({"CLoRA": "on"}) for _, read in fields],
        "restored wrong": [read({"CLoRA": "on", "CLoRA mask threshold": "seven"}) for _, read in fields],
        "restored nothing": [read({"Steps": "20"}) for _, read in fields],
        "changed": [plain_value(s, getattr(changed, s.name)) for s in SETTINGS],
        "defaults": [plain_value(s, s.default) for s in SETTINGS],
        "first sight": first_sight(config, "txt2img_clora_settings"),
        "texts": page_texts(config, first._id, last._id),
        "labels": [setting.label for setting in SETTINGS],
        "page": len(urllib.request.urlopen(url, timeout=90).read()),
        "route settings": sorted(call(f"{url}/clora/v1/settings")["properties"]),
        "route version": call(f"{url}/clora/v1/version"),
        "route analyze": call(f"{url}/clora/v1/analyze", {"prompt": PROMPT}),
        "route analyze styles": call(f"{url}/clora/v1/analyze", {"prompt": "a <lora:cat:1> cat", "styles": ["dog"]}),
        "route analyze wrong styles": call(f"{url}/clora/v1/analyze", {"prompt": PROMPT, "styles": "dog"}),
        "route analyze wrong": call(f"{url}/clora/v1/analyze", {"promt": PROMPT}),
        "jobs": jobs(tabs["txt2img"], values),
    }


def first_sight(config: dict[str, Any], group: str) -> dict[str, Any]:
    """The group's state and headings, and the elements inside and outside it that can be seen at all."""
    by_id = {one["id"]: one["props"] for one in config["components"]}
    inside: list[str] = []
    outside: list[str] = []
    found: dict[str, Any] = {"inside": inside, "outside": outside, "headings": [], "accordions": 0}

    def walk(node: dict[str, Any], here: list[str]) -> None:
        props = by_id.get(node["id"], {})
        name = props.get("elem_id") or ""
        if name == group:
            here, found["open"] = inside, props["open"]
        elif here is inside and "open" in props:
            found["accordions"] += 1
        if here is inside and "clora-group" in (props.get("elem_classes") or []):
            found["headings"] += _Texts(props["value"]).found
        if name.startswith(group.partition("_")[0]) and "clora-hidden" not in (props.get("elem_classes") or []):
            here.append(name)
        for child in node.get("children") or []:
            walk(child, here)

    walk(config["layout"], outside)
    return found


def asking(config: dict[str, Any], by_id: dict[int, Any]) -> list[str]:
    """The elements whose changes are told to the page's script, which the server does not hear of."""
    found = set()
    for listener in config["dependencies"]:
        if "clora-touched" in str(listener["js"]) and not listener["backend_fn"]:
            sources = [target[0] if isinstance(target, list) else target for target in listener["targets"]]
            found |= {by_id[source]["props"]["elem_id"] for source in sources}
    return sorted(found)


class _Texts(HTMLParser):
    """What of an HTML text a WebUI's translation replaces: text, titles, placeholders; no code, no option.

    In the table, the texts of buttons and spans are names; with `no_names` they count.
    """

    def __init__(self, text: str, no_names: bool = False) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._names = () if no_names else ("td", "button", "span", "small")
        self._inside = [""]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("input", "br"):
            self._inside.append(tag)
        self.found |= {str(value) for name, value in attrs if name in ("title", "placeholder")}

    def handle_endtag(self, tag: str) -> None:
        self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside[-1] not in ("code", "option", *self._names) and data.strip():
            self.found.add(data.strip())


def page_texts(config: dict[str, Any], before: int, after: int) -> list[str]:
    """Every English text of the panel: labels, hints, buttons, accordions and the table's own words."""
    from clora.lora.user_metadata import LoraNotes
    from clora.ui.concept_table import table_html
    from clora.ui.report import Sources, report

    found: set[str] = set()
    for component in config["components"]:
        if not before < component["id"] < after:
            continue
        props = component["props"]
        found |= {props.get(name) for name in ("label", "info", "placeholder")}
        if component["type"] == "button":
            found.add(props["value"])
        elif component["type"] == "html":
            found |= _Texts(props["value"], no_names=props.get("elem_id", "").endswith("_clora_canvas")).found
    read = report(PROMPT.replace("dog:1", "dog:1:words=dog"), sources=Sources(notes_of=lambda name: LoraNotes("7")))
    found |= _Texts(table_html(read.rows, read.choices)).found
    return sorted(text for text in found if text)


def own_presets(run: Any, folder: Path, shared: Any) -> dict[str, Any]:
    """What Save, Delete and a page that is loaded answer, one after the other."""
    from clora.settings import SETTINGS
    from clora.webui import options

    kept = {s.name: plain_value(s, s.parse(other_value(s))) for s in SETTINGS}
    file, begin = folder / "clora-presets.json", "txt2img_clora_begin"
    save, delete, choice = (f"txt2img_clora_preset{end}" for end in ("_save", "_delete", ""))
    found: dict[str, Any] = {"begin": run(begin)}
    found["no name"] = run(save, " ", *kept.values())
    found["built in"] = run(save, "paper", *kept.values())
    found["wrong value"] = run(save, "mine", *{**kept, "refine_at": "soon"}.values())
    found["nothing written"] = not file.exists()
    found["saved"] = run(save, " <b>mine ", *kept.values())
    found["file"] = json.loads(file.read_text("utf-8"))
    found["chosen"] = [plain(value) for value in run(choice, "<b>mine")[0]]
    shared.opts.clora_begin_on, shared.opts.clora_begin_preset = True, "<b>mine"
    found["begin as wished"] = run(begin)
    found["choices on the settings page"] = shared.opts.data_labels["clora_begin_preset"].component_args()
    found["changed"] = run("txt2img_clora_touched", None, 20, "<b>mine", *{**kept, "mask_threshold": 0.9}.values())
    found["delete built in"] = run(delete, "paper", *kept.values())
    found["deleted"] = run(delete, "<b>mine (changed)", *kept.values())
    found["deleted again"] = run(delete, "<b>mine", *kept.values())
    found["begin without it"] = run(begin)
    found["chosen when gone"] = run(choice, "<b>mine")
    shared.opts.clora_begin_on, shared.opts.clora_begin_preset = False, "exact"
    found["begin with a former name"] = run(begin)
    options.add()
    found["former name on the settings page"] = shared.opts.clora_begin_preset
    shared.opts.clora_begin_preset = "balanced"
    return found


def plain_value(setting: Any, value: Any) -> Any:
    """A setting's value as its control shows it."""
    return setting.text(value) if setting.kind == "fractions" else value


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with installed():
        found = facts(sys.argv[1], Path(sys.argv[2]))
    print(json.dumps(found), flush=True)
    os._exit(0)  # the server's threads would keep the process for a while
