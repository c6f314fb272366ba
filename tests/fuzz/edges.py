"""The outer edges, each driven with one hostile input: text from the page, the API, the command line, and files."""

from __future__ import annotations

import asyncio
import io
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from clora.cli import main as cli
from clora.embedded import EMBEDDED_LORAS, EMBEDDED_MODEL
from clora.errors import CLoRAError, printable
from clora.evaluate.methods import read_methods
from clora.evaluate.prompts import load_mapping, load_prompts
from clora.evaluate.store import Log
from clora.hosts.diffusers import checkpoint
from clora.hosts.diffusers.text import TextEncoding
from clora.lora.file import find_lora, read_lora, read_metadata
from clora.page.cards import lora_cards
from clora.page.markup import cards_html, highlight_html
from clora.page.paste import read_pasted
from clora.page.session import Session, composition_of, lora_folders, path_of, read_prompt
from clora.prompt import read_tags
from clora.settings import SETTINGS, Settings
from clora.settings.infotext import infotext, infotext_fields, read_infotext
from clora.ui.concept_table import message_html, table_html
from clora.ui.corrected_prompt import move_into_prompt
from clora.ui.corrections import read_corrections, with_changed_cell, write_corrections
from clora.ui.preset_file import PresetFile
from clora.ui.request import read_request
from tests.fuzz import hostile
from tests.hosts.tiny import tiny_sd, write_lora


class WrongError(AssertionError):
    """An edge ended in something else than an answer or one sentence."""


def check_sentence(sentence: str) -> None:
    """Raises: WrongError for a message that is not one line, not short, or not the user's to mend."""
    sentence.encode()
    if "\n" in sentence or "\r" in sentence:
        raise WrongError(f"more than one line: {sentence!r}")
    if len(sentence) > 1200:
        raise WrongError(f"{len(sentence)} characters: {sentence[:300]!r}")
    if "please report" in sentence or "see the console" in sentence or "Traceback" in sentence:
        raise WrongError(sentence)


class Edges:
    """The edges by name, and the files and models that they share. `folder` is written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.good_lora = (EMBEDDED_LORAS / "genie.safetensors").read_bytes()

    def all(self) -> dict[str, Callable[[random.Random], None]]:
        """Every edge, from the cheapest to the most expensive."""
        return {
            "settings": self.settings, "request": self.request, "corrections": self.corrections, "cell": self.cell,
            "prompt": self.prompt, "api": self.api, "infotext": self.infotext, "folders": self.folders,
            "presets": self.presets, "lora": self.lora, "evaluate": self.evaluate, "model": self.model,
            "command": self.command,
        }  # fmt: skip

    # ------------------------------------------------------------------------------ values

    def settings(self, rng: random.Random) -> None:
        """Settings from JSON or Python values, written as infotext and read back."""
        names = [rng.choice(SETTINGS).name if rng.random() < 0.9 else hostile.text(rng, 3) for _ in "abc"]
        preset = hostile.value(rng) if rng.random() < 0.1 else "fast"
        made = Settings(preset, **{n: hostile.setting_value(rng, n) for n in names if n != "preset"})
        "".join(infotext_fields(made).values()).encode()

    def request(self, rng: random.Random) -> None:
        """The panel's values or the API's object."""
        if rng.random() < 0.6:
            read_request([hostile.fields(rng)])
        else:
            read_request([hostile.value(rng), *(hostile.value(rng) for _ in range(rng.randrange(len(SETTINGS) + 3)))])

    def corrections(self, rng: random.Random) -> None:
        """The user's corrections, and the prompt that they are written into."""
        given = read_corrections(hostile.corrections(rng))
        _prompt, rest = move_into_prompt(hostile.prompt(rng), given)
        write_corrections(rest).encode()

    def cell(self, rng: random.Random) -> None:
        """A changed cell of the table, as the page's script sends it."""
        cell = {"lora": hostile.text(rng, 3), "key": rng.choice(("words", "role", "x")), "value": hostile.text(rng, 3)}
        change = json.dumps(cell) if rng.random() < 0.5 else hostile.json_text(rng)
        with_changed_cell(change, "" if rng.random() < 0.5 else _as_text(hostile.corrections(rng))).encode()

    # ------------------------------------------------------------------------------ prompts

    @cached_property
    def layout(self) -> Callable[[Any], Any]:
        """Token positions by the embedded model's tokenizer."""
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(str(EMBEDDED_MODEL / "tokenizer"), local_files_only=True)
        encoding = SimpleNamespace(chunk_length=77, pipe=None, _bundled=[])
        return lambda text: TextEncoding.layout(encoding, text, tokenizer)  # type: ignore[arg-type]

    def prompt(self, rng: random.Random) -> None:
        """A prompt as the page reads it: table, message and highlighted words."""
        text, corrections = hostile.prompt(rng), ""
        if rng.random() < 0.4:
            corrections = _as_text(hostile.corrections(rng))
        layout = self.layout if rng.random() < 0.3 else None
        try:
            found = read_prompt(text, hostile.text(rng, 3), corrections, Session(), lambda source: layout)
        except CLoRAError as error:
            raise WrongError(f"the panel's reading raises: {error}") from error
        if found.problem:
            check_sentence(found.problem)
        (message_html(found) + table_html(found.rows, found.choices, corrections)).encode("utf-8", "surrogatepass")
        tags = read_tags(printable(text))
        if text.strip() and [row.lora for row in found.rows] != [tag.name for tag in tags]:
            raise WrongError(f"{len(found.rows)} rows for {len(tags)} tags")
        highlight_html(text, composition_of(text, corrections, Session())).encode("utf-8", "surrogatepass")

    @cached_property
    def app(self) -> Any:
        """The extension's routes in the stand-in for a WebUI."""
        from fastapi import FastAPI

        from tests.standin import installed

        with installed():
            import networks
            from modules import tiny_a1111

            from clora.webui import api, script

            networks.folder = EMBEDDED_LORAS
            networks.list_available_networks()
            tiny_a1111.load()
            app = FastAPI()
            api.add_routes(app, script.read_prompt)
        return app

    def api(self, rng: random.Random) -> None:
        """POST /clora/v1/analyze: status 200 or 422 with one sentence, and 400 for what is no JSON."""
        body = hostile.json_text(rng)
        if rng.random() < 0.8:
            given: dict[str, Any] = {"prompt": hostile.prompt(rng)}
            for name in ("negative_prompt", "corrections", "styles", "nonsense"):
                if rng.random() < 0.3:
                    given[name] = hostile.corrections(rng) if name == "corrections" else hostile.value(rng)
            body = json.dumps(given, default=str) if _writable(given) else body
        status, answer = post(self.app, "/clora/v1/analyze", body.encode("utf-8", "surrogatepass"))
        if status not in (200, 400, 422):
            raise WrongError(f"status {status}: {answer[:300]!r}")
        found = json.loads(answer)
        problem = found.get("problem") if status == 200 else found.get("detail")
        if isinstance(problem, str) and problem:
            check_sentence(problem)

    def infotext(self, rng: random.Random) -> None:
        """A picture's parameters, pasted."""
        text = hostile.infotext(rng)
        found = read_pasted(text, None)
        if found is not None:
            check_sentence(found.note.encode("utf-8", "replace").decode())
        read_infotext(hostile.text(rng))
        infotext(hostile.text(rng, 3), hostile.text(rng, 3), {"Steps": hostile.number(rng)})

    # ------------------------------------------------------------------------------ files

    def folders(self, rng: random.Random) -> None:
        """Folders and paths as a user types them."""
        typed = rng.choice(("~nosuchuser/x", "a" * 5000, "x\0y", "/dev/null", hostile.text(rng)))
        cards_html(lora_cards([self.folder])).encode()
        path_of(typed)
        lora_folders(typed)

    def presets(self, rng: random.Random) -> None:
        """A file of presets that somebody else wrote: read, changed, read again."""
        file = PresetFile(self.folder / "presets.json")
        file.path.write_bytes(hostile.preset_file(rng))
        for problem in file.read().problems:
            check_sentence(problem)
        name = hostile.text(rng, 3)
        try:
            file.save(name, Settings())
        finally:
            for bad in self.folder.glob("presets.json.bad*"):
                bad.unlink()
        file.read().named(name.strip())
        file.delete(name.strip())

    def lora(self, rng: random.Random) -> None:
        """A damaged LoRA file among others."""
        folder = self.folder / "loras"
        folder.mkdir(exist_ok=True)
        path = folder / "one.safetensors"
        path.write_bytes(hostile.lora_bytes(rng, self.good_lora))
        try:
            find_lora(hostile.text(rng, 3), [folder])
        except CLoRAError as error:
            check_sentence(str(error))
        read_metadata(path)
        read_lora(path)

    def evaluate(self, rng: random.Random) -> None:
        """The files and methods of `clora evaluate`."""
        path = self.folder / rng.choice(("a.json", "a.toml", "a.txt"))
        path.write_bytes(hostile.json_text(rng).encode("utf-8", "surrogatepass"))
        if rng.random() < 0.5:
            slot = rng.choice(("genie", {"lora": "genie", "weight": hostile.value(rng), "trigger": hostile.value(rng)}))
            if _writable(slot):
                path.write_text(json.dumps({"cat": slot, hostile.text(rng, 1): "x"}), encoding="utf-8")
        Log(path)
        choice = rng.randrange(3)
        if choice == 0:
            load_mapping(path)
        elif choice == 1:
            load_prompts(path, {})
        else:
            settings = ",".join(f"{rng.choice(SETTINGS).name}={hostile.number(rng)}" for _ in "ab")
            read_methods([rng.choice((hostile.text(rng, 3), f"mine:{settings}", "clora"))])

    def model(self, rng: random.Random) -> None:
        """A model that is none."""
        folder = self.folder / "model"
        (folder / "unet").mkdir(parents=True, exist_ok=True)
        for name in ("model_index.json", "unet/config.json"):
            (folder / name).write_bytes(hostile.json_text(rng).encode("utf-8", "surrogatepass"))
        file = self.folder / "model.safetensors"
        file.write_bytes(hostile.lora_bytes(rng, self.good_lora))
        source = rng.choice((folder, file, Path("a" * 5000), Path("x\0y"), Path("~nosuchuser"), Path("/dev/null")))
        checkpoint.load_pipeline(source, device="cpu")

    # ------------------------------------------------------------------------------ the command line

    @cached_property
    def pipe(self) -> Any:
        """A tiny pipeline, with LoRAs for it in the folder."""
        pipe = tiny_sd()
        folder = self.folder / "tiny"
        folder.mkdir(exist_ok=True)
        for seed, name in enumerate(("genie", "singer", "peacock", "lava", "pencil")):
            write_lora(folder / f"{name}.safetensors", pipe, seed)
        return pipe

    def command(self, rng: random.Random) -> None:
        """`clora compose` with hostile options, on a tiny model."""
        pipe = self.pipe
        out = rng.choice(("a.png", "a.png", "a.jpg", "a" * 300 + ".png", "x\0.png", "tiny/genie.safetensors/a.png"))
        given = [f"--lora-dir={self.folder / 'tiny'}", f"--out={self.folder / out}", "--refine-updates=0"]
        given += ["--steps=" + (rng.choice(("1001", "0", "-1")) if rng.random() < 0.1 else "1")]
        for name in ("width", "height"):
            if rng.random() < 0.1:
                given.append(f"--{name}={rng.choice(('63', '-8', '1000000', '1000000000', '128'))}")
        for setting in rng.choices(cli.CLI_SETTINGS, k=rng.randrange(3)):
            value = setting.text(setting.default) if rng.random() < 0.5 else hostile.number(rng)
            given.append(f"--{setting.name.replace('_', '-')}={value}")
        text, negative = hostile.prompt(rng), hostile.text(rng, 3)
        arguments = ["compose", *given, f"--negative={negative}", "--", text]
        with mock.patch.object(checkpoint, "load_pipeline", return_value=pipe), captured() as shown:
            try:
                code = cli.main(arguments)
            except SystemExit as left:
                code = int(left.code or 0) if isinstance(left.code, int) else 1
                if code == 2:
                    return  # argparse's own message
        if code not in (0, 2):
            raise WrongError(f"exit code {code}")
        if code == 2:
            check_sentence(shown().splitlines()[-1])


def _writable(value: Any) -> bool:
    try:
        json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return False
    return True


def _as_text(value: Any) -> str:
    """Text, or a value as JSON; "" for what JSON cannot write."""
    return value if isinstance(value, str) else json.dumps(value, default=str) if _writable(value) else ""


@contextmanager
def captured() -> Iterator[Callable[[], str]]:
    """What a command prints to the standard error output."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with redirect_stdout(out), redirect_stderr(err):
        yield lambda: err.buffer.getvalue().decode()  # type: ignore[attr-defined]


def post(app: Any, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of a request to an ASGI application."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")]
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": headers, "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"]), b"".join(message.get("body", b"") for message in sent[1:])


@contextmanager
def ready() -> Iterator[Edges]:
    """The edges with a folder that goes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Edges(Path(folder))
