"""The command line: `clora compose PROMPT`, `clora demo`, `clora serve` and `clora evaluate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..embedded import DEMO_PROMPT, EMBEDDED_GUIDANCE, EMBEDDED_LORAS
from ..engine.composer import Event, Updated
from ..errors import CLoRAError
from ..evaluate.command import add_options, run_evaluate
from ..settings import PRESETS, SETTINGS, Settings


class Progress:
    """A progress bar over the sampler's steps that says the phase: refine, update or fuse.

    It appears with the first event: a mistake that ends the run before has nothing above its sentence.
    """

    def __init__(self, steps: int, title: str) -> None:
        self._steps, self._title, self._loss = steps, title, ""
        self._bar: Any = None

    def __call__(self, event: Event) -> None:
        """Show one event of the composer."""
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=self._steps, desc=self._title, unit="step", leave=True)
        if isinstance(event, Updated):
            self._loss = f", loss {event.loss:.3f}"
            phase = f"refine {event.index + 1}/{event.total}" if event.total > 1 else "update"
            self._bar.set_postfix_str(phase + self._loss)
        else:
            self._bar.set_postfix_str("fuse" + self._loss)
            self._bar.update()

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def build_parser() -> argparse.ArgumentParser:
    """The arguments; one option for every entry of the settings table."""
    parser = argparse.ArgumentParser(prog="clora", description="Compose several LoRAs in one picture.")
    commands = parser.add_subparsers(dest="command", required=True)
    compose = commands.add_parser("compose", help="compose the LoRAs of a prompt into a picture")
    compose.add_argument("prompt", help='for instance "a <lora:cat:1> cat and a <lora:dog:0.8> dog"')
    compose.add_argument("--negative", default="", help="negative prompt")
    compose.add_argument("--out", type=Path, default=Path("outputs/clora.png"), help="the picture to write (PNG)")
    demo = commands.add_parser("demo", help="compose the README's prompt with CLoRA and with a plain merge")
    demo.add_argument("--prompt", default=DEMO_PROMPT, help="another prompt")
    demo.add_argument("--negative", default="", help="negative prompt")
    demo.add_argument("--out", type=Path, default=Path("outputs/demo.png"), help="the side-by-side picture to write")
    for command in (compose, demo):
        _add_common(command)
    serve = commands.add_parser("serve", help="a page for the browser, on this machine")
    serve.add_argument("--port", type=int, default=7861, help="default: 7861")
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in")
    serve.add_argument("--presets", type=Path, default=Path("clora-presets.json"), help="the file with your own "
                       "presets; a WebUI's has the same form")  # fmt: skip
    _add_model(serve)
    evaluate = commands.add_parser("evaluate", help="compare methods as the paper does, with your model and LoRAs")
    _add_model(evaluate)
    add_options(evaluate)
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", type=Path, help="a diffusers folder or an SD checkpoint (.safetensors); "
                         "default: the embedded model")  # fmt: skip
    command.add_argument("--lora-dir", type=Path, action="append", help="folder with LoRA files; may be repeated")
    command.add_argument("--device", help="cpu, cuda, ...; default: cuda where there is one")


def _add_common(command: argparse.ArgumentParser) -> None:
    _add_model(command)
    command.add_argument("--seed", type=int, default=0, help="of the noise the picture begins with; default: 0")
    command.add_argument("--steps", type=int, default=30, help="sampler steps; default: 30")
    command.add_argument("--guidance", type=float, help="classifier-free guidance scale; "
                         f"default: 7.5, and {EMBEDDED_GUIDANCE} for the embedded model")  # fmt: skip
    command.add_argument("--width", type=int, default=0, help="pixels; default: the model's own size")
    command.add_argument("--height", type=int, default=0, help="pixels; default: the model's own size")
    command.add_argument("--prediction", choices=("epsilon", "v_prediction", "sample"), help="what the model predicts")
    command.add_argument("--preset", default="default", choices=sorted(PRESETS), help="where settings start from")
    group = command.add_argument_group("settings")
    for setting in OFFERED:
        text = f"{setting.help} ({setting.allowed}; default {setting.text(setting.default)})"
        group.add_argument(f"--{setting.name.replace('_', '-')}", dest=f"set_{setting.name}", metavar="V", help=text)


OFFERED = tuple(setting for setting in SETTINGS if not setting.webui_only)


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the command line names, on top of its preset."""
    given = {s.name: getattr(options, f"set_{s.name}") for s in OFFERED}
    return Settings(preset=options.preset, **{name: value for name, value in given.items() if value is not None})


def check_output(path: Path) -> None:
    """Errors: CLoRAError for a place where no picture can be written."""
    if path.suffix.lower() != ".png":
        raise CLoRAError(f"The picture {path} must end in .png: its parameters are stored in PNG text.")
    parent = next((p for p in path.absolute().parents if p.exists()), None)
    if parent is None or not parent.is_dir() or path.is_dir():
        raise CLoRAError(f"The picture cannot be written to {path}: name a file in a folder.")


def render(pipe: Any, options: argparse.Namespace, settings: Settings, title: str) -> Any:
    """Compose once, with a progress bar."""
    from ..hosts.diffusers import compose

    progress = Progress(options.steps, title)
    guidance = options.guidance
    if guidance is None:
        guidance = 7.5 if options.model else EMBEDDED_GUIDANCE
    try:
        return compose(
            pipe, options.prompt, loras=options.lora_dir or [EMBEDDED_LORAS], negative_prompt=options.negative,
            seed=options.seed, steps=options.steps, guidance=guidance, width=options.width,
            height=options.height, settings=settings, observer=progress,
        )  # fmt: skip
    finally:
        progress.close()


def run_compose(options: argparse.Namespace) -> int:
    """`clora compose`: the picture, the masks over it, and its parameters as PNG text."""
    from ..hosts.diffusers.checkpoint import load_pipeline
    from .output import write_composed

    settings = settings_of(options)
    check_output(options.out)
    pipe = load_pipeline(options.model, device=options.device, prediction=options.prediction)
    composed = render(pipe, options, settings, settings.method)
    for warning in composed.warnings:
        print(warning, file=sys.stderr)
    for path in write_composed(composed, options.out, model=options.model):
        print(path)
    return 0


def run_demo(options: argparse.Namespace) -> int:
    """`clora demo`: CLoRA and plain merge from the same seed, side by side with the masks."""
    from ..hosts.diffusers.checkpoint import load_pipeline
    from .output import write_comparison

    settings = settings_of(options)
    check_output(options.out)
    pipe = load_pipeline(options.model, device=options.device, prediction=options.prediction)
    print(options.prompt)
    merged = render(pipe, options, settings.replace(method="merge"), "merge")
    composed = render(pipe, options, settings, "clora")
    for warning in composed.warnings:
        print(warning, file=sys.stderr)
    print(f"Side by side: {write_comparison(merged, composed, options.out, model=options.model)}")
    return 0


def run_serve(options: argparse.Namespace) -> int:
    """`clora serve`: the page, until it is interrupted."""
    from ..page.serve import serve
    from ..page.session import Session, lora_folders

    loras = lora_folders("\n".join(map(str, options.lora_dir or [])))
    serve(options.host, options.port, Session(options.model, loras), options.presets, options.device)
    return 0


COMMANDS = {"compose": run_compose, "demo": run_demo, "serve": run_serve, "evaluate": run_evaluate}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `clora`. Returns 0, or 2 after a user's mistake, told in one sentence."""
    options = build_parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except CLoRAError as error:
        print(f"clora: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
