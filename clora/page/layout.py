"""The page: its controls and their events. A tab's prompt, settings, model and folders are its own."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from ..embedded import DEMO_PROMPT, EMBEDDED_GUIDANCE
from ..engine.plans import PlanRequest
from ..errors import CLoRAError, printable, shown
from ..settings import BY_NAME, SETTINGS, START, Settings
from ..ui import panel
from ..ui.controls import IMMEDIATE, control_value
from ..ui.corrected_prompt import move_into_prompt, painted_only
from ..ui.corrections import read_corrections
from ..ui.messages import note_html
from ..ui.preset_bar import PresetSource
from ..ui.preset_file import PresetFile
from . import markup
from .cards import lora_cards
from .drawing import result_of, summary_of
from .engine import Drawn, Engine, Job, Stopped
from .paste import read_pasted
from .session import Session, composition_of, lora_folders, path_of, read_prompt

_N = TypeVar("_N", int, float)
GUIDANCE = 7.5
"""The default for the user's checkpoints."""
_WEBUI_ONLY = ("hires", "show_merge", "preview_masks", "detail", "detail_steps", "detail_strength", "detail_size")
"""Settings without effect here: the page has no hires and detail pass and no live preview, and always draws plain
merge."""
_FIELDS = ("prompt", "negative", "steps", "guidance", "seed", "width", "height", "corrections")
"""The page's own controls that pasted parameters fill, by their names in `paste.Pasted`."""
_INTRO = "Each LoRA draws its own subject. Ctrl+Enter generates, from anywhere on the page."


class Page:
    """Builds the page around an engine; every new tab starts with `session`."""

    def __init__(self, engine: Engine, session: Session, head: str, css: str, presets: Path) -> None:
        self.engine, self.initial = engine, session
        self.presets = PresetSource(PresetFile(presets), lambda: (True, START))
        self.running: dict[str, threading.Event] = {}
        fonts = ["system-ui", "sans-serif"]  # the theme's fonts would be downloaded
        theme = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])
        with gr.Blocks(title="CLoRA", theme=theme, head=head, css=css, analytics_enabled=False) as self.blocks:
            self._build()

    def _build(self) -> None:
        self.session = gr.State(self.initial)
        gr.HTML(f'<h1>CLoRA</h1><p class="clora-lead">{_INTRO}</p>')
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._prompt_part()
            with gr.Column(scale=6, min_width=320):
                gr.HTML("<h2>Picture</h2>", elem_id="clora_picture")
                self.status = gr.HTML("", elem_id="clora_status", elem_classes=["clora-message"])
                self.result = gr.HTML(
                    '<p class="clora-empty">The picture, where each LoRA drew, and plain merge from the same seed '
                    "appear here.</p>",
                    elem_id="clora_result",
                )
        tab = panel.TabComponents(self.prompt, self.negative, self.steps, self.generate, (self.session,), _WEBUI_ONLY)
        self.panel = panel.build(_always_on, self._read, is_img2img=False, page=tab, presets=self.presets)
        self._model_part()
        self._wire()

    def _prompt_part(self) -> None:
        self.prompt = gr.Textbox(DEMO_PROMPT, label="Prompt", lines=3, elem_id="txt2img_prompt")
        # Above everything that changes with the prompt: a button that moves between press and release is not clicked.
        with gr.Row():
            self.generate = gr.Button("Generate", variant="primary", elem_id="txt2img_generate", min_width=140)
            self.stop = gr.Button("Stop", elem_id="clora_stop", min_width=80)
            self.keep_seed = gr.Button("Keep this seed", elem_id="clora_again", min_width=120)
        self.paste_note = gr.HTML("", elem_id="clora_taken", elem_classes=["clora-message"])
        # Clicked by page.js when a picture's parameters are pasted into the prompt.
        self.paste = gr.Button("", elem_id="clora_take", elem_classes=["clora-hidden"])
        self.words = gr.HTML("", elem_id="clora_words")
        self.cards = gr.HTML(self._cards(self.initial), elem_id="clora_cards")
        self.negative = gr.Textbox("", label="Negative prompt", lines=1, elem_id="txt2img_neg_prompt")
        with gr.Row():
            self.steps = gr.Slider(1, 100, value=20, step=1, label="Steps", elem_id="txt2img_steps", min_width=200)
            guidance = GUIDANCE if self.initial.model else EMBEDDED_GUIDANCE
            self.guidance = gr.Slider(
                1, 20, value=guidance, step=0.5, label="Guidance", elem_id="clora_guidance", min_width=200
            )
        with gr.Row():
            self.seed = gr.Number(-1, label="Seed (-1: random)", precision=0, elem_id="clora_seed", min_width=100)
            self.width = gr.Number(0, label="Width (0: model's)", precision=0, elem_id="clora_width", min_width=100)
            self.height = gr.Number(0, label="Height (0: model's)", precision=0, elem_id="clora_height", min_width=100)
        self.last_seed = gr.State(-1)

    def _model_part(self) -> None:
        with gr.Accordion("Model and LoRA folder", open=False, elem_id="clora_model"):
            self.model_line = gr.HTML(_model_line(self.initial.model), elem_id="clora_model_said")
            with gr.Row(equal_height=True):
                model = "" if self.initial.model is None else str(self.initial.model)
                self.model = gr.Textbox(
                    model, label="Checkpoint", scale=4, elem_id="clora_checkpoint",
                    info="A diffusers folder or a .safetensors file (SD 1.5, SD 2.x, SDXL). Empty: the embedded model.",
                )  # fmt: skip
                self.load = gr.Button("Load checkpoint", elem_id="clora_load", min_width=120)
            with gr.Row(equal_height=True):
                loras = "" if self.initial.loras == Session().loras else "\n".join(map(str, self.initial.loras))
                self.folder = gr.Textbox(
                    loras, label="LoRA folder", scale=4, elem_id="clora_folder",
                    info="One folder per line. Empty: the embedded model's LoRAs.",
                )  # fmt: skip
                self.use = gr.Button("Use this folder", elem_id="clora_use", min_width=120)

    def _wire(self) -> None:
        corrections = self.panel.corrections
        read, read_inputs, read_outputs = self.panel.read_event
        word_inputs = [self.prompt, corrections, self.session]
        for event in (self.prompt.change, corrections.change, self.session.change):
            event(self._highlight, word_inputs, self.words, trigger_mode="always_last", **IMMEDIATE)
        for event in (self.prompt.blur, self.session.change):
            event(read, read_inputs, read_outputs, trigger_mode="always_last", **IMMEDIATE)
        self.blocks.load(self._highlight, word_inputs, self.words, **IMMEDIATE)
        self.blocks.load(read, read_inputs, read_outputs, **IMMEDIATE)
        self.blocks.load(*self.panel.start_event, **IMMEDIATE)
        numbers = [self.steps, self.guidance, self.seed, self.width, self.height]
        settings = self.panel.inputs[1 : 1 + len(SETTINGS)]
        fields = [self.prompt, self.negative, *numbers, corrections, *settings]
        self.paste.click(
            self._paste, [self.prompt, self.session], [self.paste_note, *fields], **IMMEDIATE
        ).then(read, read_inputs, read_outputs, **IMMEDIATE)  # fmt: skip
        self.generate.click(lambda: "", [], self.paste_note, **IMMEDIATE)
        # Many tabs may wait at once, and each shows that it waits; the engine runs one job at a time.
        self.generate.click(
            self._draw, [self.session, self.prompt, self.negative, *numbers, *self.panel.inputs[1:]],
            [self.status, self.result, self.last_seed], concurrency_limit=None, show_progress="hidden",
        )  # fmt: skip
        self.stop.click(self._stop, [], [], **IMMEDIATE)
        self.keep_seed.click(lambda seed: seed, self.last_seed, self.seed, **IMMEDIATE)
        loaded = [self.session, self.model_line, self.guidance, self.width, self.height]
        for event in (self.load.click, self.model.submit):
            event(self._load, [self.model, self.session], loaded, concurrency_limit=None)
        for event in (self.use.click, self.folder.submit):
            event(self._use, [self.folder, self.session], [self.session, self.model_line, self.cards], **IMMEDIATE)

    # --------------------------------------------------------------------------------- events

    def _read(self, prompt: str, negative: str, corrections: str, session: Session) -> Any:
        return read_prompt(prompt, negative, corrections, session, self.engine.layout)

    def _highlight(self, prompt: str, corrections: str, session: Session) -> str:
        return markup.highlight_html(prompt, composition_of(prompt, corrections, session))

    def _paste(self, prompt: str, session: Session) -> list[Any]:
        """Note and controls after a picture's parameters were pasted into the prompt."""
        pasted = read_pasted(prompt, session.model)
        names = [*_FIELDS, *(setting.name for setting in SETTINGS)]
        if pasted is None:
            return [gr.update() for _ in (None, *names)]
        values = {n: control_value(BY_NAME[n], v) if n in BY_NAME else v for n, v in pasted.values.items()}
        return [note_html(pasted.note), *(values.get(name, gr.update()) for name in names)]

    def _cards(self, session: Session) -> str:
        return markup.cards_html(lora_cards(session.loras))

    def _draw(
        self, request: gr.Request, session: Session, prompt: str, negative: str, steps: float, guidance: float,
        seed: float | None, width: float | None, height: float | None, *values: Any,
    ) -> Iterator[tuple[Any, Any, Any]]:  # fmt: skip
        """Status, result and seed while a job runs; the previous result stays after an error."""
        stop = self.running[str(request.session_hash)] = threading.Event()
        started, drawn, same = time.monotonic(), list[Drawn](), gr.update()
        try:
            *settings_given, corrections, planned = values
            report = self._read(prompt, negative, corrections, session)
            if report.problem:
                raise CLoRAError(report.problem)
            settings = Settings(**dict(zip([s.name for s in SETTINGS], settings_given, strict=True)))
            size = (_number(width, "width"), _number(height, "height"))
            text, rest = move_into_prompt(printable(prompt), read_corrections(corrections))
            seed = _number(-1 if seed is None else seed, "seed")
            scale, count = _number(guidance, "guidance", float), _number(steps, "number of steps")
            plan = PlanRequest.of_text(planned or "")
            job = Job(text, printable(negative), session, settings, count, scale, seed, *size, painted_only(rest), plan)
            for event in self.engine.draw(job, stop):
                if isinstance(event, Drawn):
                    drawn.append(event)
                    yield same, result_of(job, drawn), event.composed.seeds[0]
                else:
                    yield markup.progress_html(event), same, same
            summary, notes = summary_of(job, drawn, time.monotonic() - started)
            yield markup.notes_html(notes, summary), same, same
        except Stopped:
            yield markup.notes_html(("Stopped.",)), same, same
        except CLoRAError as error:
            yield markup.problem_html(str(error)), same, same
        except Exception as error:
            traceback.print_exc()
            text = f"The picture could not be drawn ({type(error).__name__}: {shown(str(error))}); see the console."
            yield markup.problem_html(text), same, same

    def _stop(self, request: gr.Request) -> None:
        stop = self.running.get(str(request.session_hash))
        if stop is not None:
            stop.set()

    def _load(self, text: str, session: Session) -> tuple[Any, ...]:
        same = gr.update()
        try:
            source = path_of(text) if (text or "").strip() else None
            size = self.engine.load(source)
        except CLoRAError as error:
            return same, markup.problem_html(f"{error}") + _model_line(session.model), same, same, same
        guidance = EMBEDDED_GUIDANCE if source is None else GUIDANCE
        return Session(source, session.loras), _model_line(source), guidance, size.width, size.height

    def _use(self, text: str, session: Session) -> tuple[Any, Any, Any]:
        try:
            chosen = Session(session.model, lora_folders(text or ""))
        except CLoRAError as error:
            return gr.update(), markup.problem_html(str(error)) + _model_line(session.model), gr.update()
        return chosen, _model_line(chosen.model), self._cards(chosen)


def _number(value: Any, name: str, kind: Callable[[Any], _N] = int) -> _N:  # type: ignore[assignment]
    """The value of a number field; an empty one is 0. Raises: CLoRAError for what is no number."""
    try:
        return kind(value or 0)
    except (TypeError, ValueError, OverflowError):
        raise CLoRAError(f"The {name} cannot be {shown(value)}: enter a number.") from None


def _model_line(source: Path | None) -> str:
    name = "the embedded model" if source is None else str(source)
    return markup.notes_html((), f"Current model: {name}.")


@contextmanager
def _always_on(value: bool, *, label: str, elem_id: str) -> Iterator[Any]:
    """The panel's accordion without the checkbox of a WebUI: on this page CLoRA is always on."""
    with gr.Accordion(f"{label}: what each LoRA draws", open=True, elem_id=elem_id):
        yield gr.Checkbox(True, visible=False)
