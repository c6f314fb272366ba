"""The command line: `clora compose PROMPT`, `clora demo`, `clora serve` and `clora evaluate`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..embedded import DEMO_PROMPT, EMBEDDED_GUIDANCE, EMBEDDED_LORAS
from ..engine.composer import Event, Updated
from ..errors import CLoRAError, printable, shown
from ..evaluate.command import add_options, run_evaluate
from ..settings import PRESETS, SETTINGS, START, Settings, preset_name

CLI_SETTINGS = tuple(setting for setting in SETTINGS if not setting.webui_only)
"""Settings with a command line option; the others have an effect in a WebUI only."""


_TEXTS = ("prompt", "negative", "reference_prompt")
"""Options that are text for the model."""


class Progress:
    """A progress bar over the sampler's steps with the phase: refine, update or fuse.

    It appears with the first event, so that an error before sampling is printed without a bar above it.
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
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def build_parser() -> argparse.ArgumentParser:
    """The arguments of all commands; one option for every setting that has an effect outside a WebUI."""
    parser = argparse.ArgumentParser(prog="clora", description="Compose several LoRAs in one picture.")
    commands = parser.add_subparsers(dest="command", required=True)
    compose = commands.add_parser("compose", help="compose the LoRAs of a prompt into a picture")
    compose.add_argument("prompt", help='for instance "a <lora:cat:1> cat and a <lora:dog:0.8> dog"')
    compose.add_argument("--negative", default="", help="negative prompt")
    compose.add_argument("--out", type=Path, default=Path("outputs/clora.png"), help="output file (PNG)")
    demo = commands.add_parser("demo", help="compose the README's prompt with CLoRA and with plain merge")
    demo.add_argument("--prompt", default=DEMO_PROMPT, help="the prompt; default: the README's")
    demo.add_argument("--negative", default="", help="negative prompt")
    demo.add_argument("--out", type=Path, default=Path("outputs/demo.png"), help="output file (PNG)")
    for command in (compose, demo):
        _add_common(command)
    serve = commands.add_parser("serve", help="serve a page for the browser")
    serve.add_argument("--port", type=int, default=7861, help="port; default: 7861")
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="default: 127.0.0.1, this machine only; 0.0.0.0: all",
    )
    serve.add_argument("--presets", type=Path, default=Path("clora-presets.json"), help="file of your presets, "
                       "in the same format as a WebUI's; default: clora-presets.json")  # fmt: skip
    _add_model(serve)
    evaluate = commands.add_parser("evaluate", help="run the paper's evaluation with your model and LoRAs")
    _add_model(evaluate)
    add_options(evaluate)
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", type=Path, help="a diffusers folder or an SD checkpoint (.safetensors); "
                         "default: the embedded model")  # fmt: skip
    command.add_argument(
        "--lora-dir",
        type=Path,
        action="append",
        help="folder with LoRA files, may be repeated; default: the embedded model's",
    )
    command.add_argument("--device", help="cpu, cuda, ...; default: cuda if available")


def _add_common(command: argparse.ArgumentParser) -> None:
    _add_model(command)
    command.add_argument("--seed", type=int, default=0, help="seed of the initial noise; default: 0")
    command.add_argument("--steps", type=int, default=30, help="sampler steps; default: 30")
    command.add_argument("--guidance", type=float, help="classifier-free guidance scale; "
                         f"default: 7.5, and {EMBEDDED_GUIDANCE} for the embedded model")  # fmt: skip
    command.add_argument("--width", type=int, default=0, help="pixels; default: the model's own size")
    command.add_argument("--height", type=int, default=0, help="pixels; default: the model's own size")
    command.add_argument("--prediction", choices=("epsilon", "v_prediction", "sample"), help="what the model predicts")
    command.add_argument(
        "--preset",
        default=START,
        type=preset_name,
        choices=list(PRESETS),
        help=f"the quality that the settings start from; default: {START}",
    )
    group = command.add_argument_group("settings")
    for setting in CLI_SETTINGS:
        text = f"{setting.help} ({setting.allowed}; default {setting.text(setting.default)})"
        group.add_argument(f"--{setting.name.replace('_', '-')}", dest=f"set_{setting.name}", metavar="V", help=text)


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings of the command line: its preset, changed by its options."""
    given = {s.name: getattr(options, f"set_{s.name}") for s in CLI_SETTINGS}
    return Settings(preset=options.preset, **{name: value for name, value in given.items() if value is not None})


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
    """`clora compose`: write the picture with its parameters as PNG text, and its masks."""
    from ..hosts.diffusers.checkpoint import load_pipeline
    from .output import check_output, write_composed

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
    from .output import check_output, write_comparison

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
    """`clora serve`: serve the page until interrupted."""
    from ..page.serve import serve
    from ..page.session import Session, lora_folders

    loras = lora_folders("\n".join(map(str, options.lora_dir or [])))
    serve(options.host, options.port, Session(options.model, loras), options.presets, options.device)
    return 0


COMMANDS = {"compose": run_compose, "demo": run_demo, "serve": run_serve, "evaluate": run_evaluate}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `clora`. Returns 0, 2 after an error, which it prints as one sentence, or 130 after Ctrl+C."""
    options = build_parser().parse_args(arguments)
    for name in _TEXTS:
        if isinstance(getattr(options, name, None), str):  # bytes of the terminal that are no UTF-8
            setattr(options, name, printable(getattr(options, name)))
    try:
        return COMMANDS[options.command](options)
    except CLoRAError as error:
        print(f"clora: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("clora: Interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        print(f"clora: {_unexpected(error)}", file=sys.stderr)
    return 2


def _unexpected(error: Exception) -> CLoRAError:
    """The sentence about an error that is not the user's. Its traceback is kept in a file for a report."""
    kept = "cannot be stored"
    with suppress(OSError), tempfile.NamedTemporaryFile("w", prefix="clora-", suffix=".txt", delete=False) as file:
        file.write(printable("".join(traceback.format_exception(error))))
        kept = f"is in {file.name}"
    return CLoRAError(f"CLoRA failed ({type(error).__name__}: {shown(str(error))}): please report it; details {kept}.")


if __name__ == "__main__":
    sys.exit(main())
