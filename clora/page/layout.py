"""The page itself: its controls, and what each of them does. Everything a user chooses stays in the user's tab."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from ..embedded import DEMO_PROMPT, EMBEDDED_GUIDANCE
from ..errors import CLoRAError
from ..settings import BY_NAME, SETTINGS, Settings
from ..ui import panel
from ..ui.controls import QUIET, shown
from ..ui.corrected_prompt import corrected_prompt
from ..ui.messages import note_html
from ..ui.preset_bar import Keeping
from ..ui.presets import PresetFile
from ..ui.request import read_corrections
from . import markup
from .cards import lora_cards
from .drawing import result_of, said_of
from .engine import Drawn, Engine, Job, Stopped
from .paste import taken_from
from .session import Session, composition_of, lora_folders, path_of, read_prompt

GUIDANCE = 7.5
"""Of real checkpoints."""
_ELSEWHERE = ("hires", "show_merge", "preview_masks")
"""Settings that mean nothing here: the page has no hires pass and no live preview, and always draws plain merge."""
_FIELDS = ("prompt", "negative", "steps", "guidance", "seed", "width", "height", "corrections")
"""The page's own controls that pasted parameters fill, by their names in `paste.Taken`."""
_INTRO = "Each LoRA draws its own subject. Ctrl+Enter generates, from anywhere on the page."


class Page:
    """Builds the page around an engine; the first `session` is what every new tab begins with."""

    def __init__(self, engine: Engine, session: Session, head: str, css: str, presets: Path) -> None:
        self.engine, self.begin = engine, session
        self.keeping = Keeping(PresetFile(presets), lambda: (True, "default"))
        self.running: dict[str, threading.Event] = {}
        fonts = ["system-ui", "sans-serif"]  # the theme's own would be fetched from elsewhere
        theme = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"])
        with gr.Blocks(title="CLoRA", theme=theme, head=head, css=css, analytics_enabled=False) as self.blocks:
            self._build()

    def _build(self) -> None:
        self.session = gr.State(self.begin)
        gr.HTML(f'<h1>CLoRA</h1><p class="clora-lead">{_INTRO}</p>')
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._prompt_part()
            with gr.Column(scale=6, min_width=320):
                gr.HTML("<h2>Picture</h2>", elem_id="clora_picture")
                self.status = gr.HTML("", elem_id="clora_status", elem_classes=["clora-message"])
                self.result = gr.HTML(
                    '<p class="clora-empty">The picture, where each LoRA drew, and plain merge from the same seed '
                    "will be here.</p>",
                    elem_id="clora_result",
                )
        ours = panel.Page(self.prompt, self.negative, self.steps, self.generate, (self.session,), _ELSEWHERE)
        self.panel = panel.build(_always_on, self._read, is_img2img=False, page=ours, keeping=self.keeping)
        self._model_part()
        self._wire()

    def _prompt_part(self) -> None:
        self.prompt = gr.Textbox(DEMO_PROMPT, label="Prompt", lines=3, elem_id="txt2img_prompt")
        # Above all that comes and goes with the prompt: a button that moves between press and release is not clicked.
        with gr.Row():
            self.generate = gr.Button("Generate", variant="primary", elem_id="txt2img_generate", min_width=140)
            self.stop = gr.Button("Stop", elem_id="clora_stop", min_width=80)
            self.again = gr.Button("Keep this seed", elem_id="clora_again", min_width=120)
        self.taken = gr.HTML("", elem_id="clora_taken", elem_classes=["clora-message"])
        # Pressed by page.js when a picture's parameters are in the prompt.
        self.take = gr.Button("", elem_id="clora_take", elem_classes=["clora-hidden"])
        self.words = gr.HTML("", elem_id="clora_words")
        self.cards = gr.HTML(self._cards(self.begin), elem_id="clora_cards")
        self.negative = gr.Textbox("", label="Negative prompt", lines=1, elem_id="txt2img_neg_prompt")
        with gr.Row():
            self.steps = gr.Slider(1, 100, value=20, step=1, label="Steps", elem_id="txt2img_steps", min_width=200)
            guidance = GUIDANCE if self.begin.model else EMBEDDED_GUIDANCE
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
            self.model_said = gr.HTML(_model_line(self.begin.model), elem_id="clora_model_said")
            with gr.Row(equal_height=True):
                model = "" if self.begin.model is None else str(self.begin.model)
                self.model = gr.Textbox(
                    model, label="Checkpoint", scale=4, elem_id="clora_checkpoint",
                    info="A diffusers folder, or an SD 1.5, SD 2.x or SDXL .safetensors; empty: the embedded model.",
                )  # fmt: skip
                self.load = gr.Button("Load checkpoint", elem_id="clora_load", min_width=120)
            with gr.Row(equal_height=True):
                loras = "" if self.begin.loras == Session().loras else "\n".join(map(str, self.begin.loras))
                self.folder = gr.Textbox(
                    loras, label="LoRA folder", scale=4, elem_id="clora_folder",
                    info="Several: one in each line. Empty: the embedded model's LoRAs.",
                )  # fmt: skip
                self.use = gr.Button("Use this folder", elem_id="clora_use", min_width=120)

    def _wire(self) -> None:
        corrections = self.panel.inputs[-1]
        read, told, answer = self.panel.reading
        told_words = [self.prompt, corrections, self.session]
        for event in (self.prompt.change, corrections.change, self.session.change):
            event(self._highlight, told_words, self.words, trigger_mode="always_last", **QUIET)
        for event in (self.prompt.blur, self.session.change):
            event(read, told, answer, trigger_mode="always_last", **QUIET)
        self.blocks.load(self._highlight, told_words, self.words, **QUIET)
        self.blocks.load(read, told, answer, **QUIET)
        self.blocks.load(*self.panel.beginning, **QUIET)
        numbers = [self.steps, self.guidance, self.seed, self.width, self.height]
        fields = [self.prompt, self.negative, *numbers, corrections, *self.panel.inputs[1:-1]]
        self.take.click(
            self._take, [self.prompt, self.session], [self.taken, *fields], **QUIET
        ).then(read, told, answer, **QUIET)  # fmt: skip
        self.generate.click(lambda: "", [], self.taken, **QUIET)
        # Many may wait at once, each told so; the engine lets one draw.
        self.generate.click(
            self._draw, [self.session, self.prompt, self.negative, *numbers, *self.panel.inputs[1:]],
            [self.status, self.result, self.last_seed], concurrency_limit=None, show_progress="hidden",
        )  # fmt: skip
        self.stop.click(self._stop, [], [], **QUIET)
        self.again.click(lambda seed: seed, self.last_seed, self.seed, **QUIET)
        loaded = [self.session, self.model_said, self.guidance, self.width, self.height]
        for event in (self.load.click, self.model.submit):
            event(self._load, [self.model, self.session], loaded, concurrency_limit=None)
        for event in (self.use.click, self.folder.submit):
            event(self._use, [self.folder, self.session], [self.session, self.model_said, self.cards], **QUIET)

    # --------------------------------------------------------------------------------- what the controls do

    def _read(self, prompt: str, negative: str, corrections: str, session: Session) -> Any:
        return read_prompt(prompt, negative, corrections, session, self.engine.layout)

    def _highlight(self, prompt: str, corrections: str, session: Session) -> str:
        return markup.highlight_html(prompt, composition_of(prompt, corrections, session))

    def _take(self, prompt: str, session: Session) -> list[Any]:
        """Note and controls after a picture's parameters were pasted into the prompt."""
        found = taken_from(prompt, session.model)
        names = [*_FIELDS, *(setting.name for setting in SETTINGS)]
        if found is None:
            return [gr.update() for _ in (None, *names)]
        values = {name: shown(BY_NAME[name], v) if name in BY_NAME else v for name, v in found.values.items()}
        return [note_html(found.note), *(values.get(name, gr.update()) for name in names)]

    def _cards(self, session: Session) -> str:
        return markup.cards_html(lora_cards(session.loras))

    def _draw(
        self, request: gr.Request, session: Session, prompt: str, negative: str, steps: float, guidance: float,
        seed: float | None, width: float | None, height: float | None, *values: Any,
    ) -> Iterator[tuple[Any, Any, Any]]:  # fmt: skip
        """Status, result and seed while a picture comes about; the result from before stays after a mistake."""
        stop = self.running[str(request.session_hash)] = threading.Event()
        begun, drawn, same = time.monotonic(), list[Drawn](), gr.update()
        try:
            found = self._read(prompt, negative, values[-1], session)
            if found.problem:
                raise CLoRAError(found.problem)
            settings = Settings(**dict(zip([s.name for s in SETTINGS], values, strict=False)))
            size = (int(width or 0), int(height or 0))
            own = corrected_prompt(prompt, read_corrections(values[-1]))
            seed = -1 if seed is None else int(seed)
            job = Job(own, negative, session, settings, int(steps), float(guidance), seed, *size)
            for told in self.engine.draw(job, stop):
                if isinstance(told, Drawn):
                    drawn.append(told)
                    yield same, result_of(job, drawn), told.composed.seeds[0]
                else:
                    yield markup.progress_html(told), same, same
            done, notes = said_of(job, drawn, time.monotonic() - begun)
            yield markup.notes_html(notes, done), same, same
        except Stopped:
            yield markup.notes_html(("Stopped.",)), same, same
        except CLoRAError as error:
            yield markup.problem_html(str(error)), same, same
        except Exception as error:
            yield markup.problem_html(f"The picture failed ({type(error).__name__}: {error})."), same, same

    def _stop(self, request: gr.Request) -> None:
        found = self.running.get(str(request.session_hash))
        if found is not None:
            found.set()

    def _load(self, text: str, session: Session) -> tuple[Any, ...]:
        same = gr.update()
        source = path_of(text) if text.strip() else None
        try:
            size = self.engine.load(source)
        except CLoRAError as error:
            return same, markup.problem_html(f"{error}") + _model_line(session.model), same, same, same
        guidance = EMBEDDED_GUIDANCE if source is None else GUIDANCE
        return Session(source, session.loras), _model_line(source), guidance, size.width, size.height

    def _use(self, text: str, session: Session) -> tuple[Any, Any, Any]:
        try:
            found = Session(session.model, lora_folders(text))
        except CLoRAError as error:
            return gr.update(), markup.problem_html(str(error)) + _model_line(session.model), gr.update()
        return found, _model_line(found.model), self._cards(found)


def _model_line(source: Path | None) -> str:
    name = "The embedded model" if source is None else str(source)
    return markup.notes_html((), f"{name} draws.")


@contextmanager
def _always_on(value: bool, *, label: str, elem_id: str) -> Iterator[Any]:
    """The panel's accordion, whose tick a WebUI has in the title: this page is for nothing else."""
    with gr.Accordion(f"{label}: what each LoRA draws", open=True, elem_id=elem_id):
        yield gr.Checkbox(True, visible=False)
