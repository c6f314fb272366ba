"""One evaluation from the command line's options: checks, plan, run and report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..embedded import EMBEDDED_GUIDANCE, EMBEDDED_LORAS, EMBEDDED_MODEL
from ..errors import CLoRAError
from ..hosts.diffusers.libraries import working_device
from ..lora.library import LoraLibrary
from ..prompt import LoraUse
from . import paper
from .drawing import import_ray
from .features import load_clip, load_dino
from .methods import read_methods
from .page import html
from .prompts import TEMPLATES, Prompt, load_mapping, load_prompts, plain_text, read_prompt
from .report import Setup, as_json, markdown
from .run import Readers, Run
from .segmenter import ClipSeg
from .store import Store, unwritten
from .summary import summarize
from .work import Contents, Planner, Studio, Work, uses_of

INTERRUPTED = 130
"""Exit code after Ctrl+C, as in shells."""


@dataclass(frozen=True)
class Plan:
    """What a run draws: `uses` are all LoRAs of all prompts, `source` is the name of the prompt list."""

    studio: Studio
    work: Work
    uses: tuple[LoraUse, ...]
    source: str
    skipped: int


def evaluate(options: argparse.Namespace) -> int:
    """Draw, measure and report; returns the exit code.

    Raises: CLoRAError. Options, prompts, files and extractors are checked before anything is drawn; errors that only
    sampling shows (a size that the model cannot draw, memory) come with the picture concerned.
    """
    check(options)
    store = Store(options.out)
    plan = make_plan(options, store)
    run = Run(store, plan.studio, plan.work, load_readers(options, store))
    try:
        run.draw(plan.uses, options.ray)
        scores = run.scores()
    except KeyboardInterrupt:
        done, total = len(plan.work.items) - len(run.missing()), len(plan.work.items)
        print(
            f"Interrupted: {done} of {total} pictures are in {options.out}. The same command continues from there.",
            file=sys.stderr,
        )
        return INTERRUPTED
    names = [method.name for method in plan.work.methods]
    summary = summarize(scores, names)
    setup = make_setup(options, plan, names)
    print(markdown(setup, plan.work, summary))
    everything = json.dumps(as_json(setup, plan.work, scores, summary), indent=1, ensure_ascii=False)
    for name, text in (("report.json", everything), ("report.html", html(setup, plan.work, scores, summary))):
        try:
            (options.out / name).write_text(text, "utf-8")
        except OSError as error:
            raise unwritten(options.out / name, error) from None
        print(options.out / name, file=sys.stderr)
    return 0


def check(options: argparse.Namespace) -> None:
    """Raises: CLoRAError for invalid options."""
    for name in ("seeds", "references", "steps"):
        if getattr(options, name) < 1:
            raise CLoRAError(f"--{name} is {getattr(options, name)}: use 1 or more.")
    if options.limit < 0:
        raise CLoRAError(f"--limit is {options.limit}: use 0 for all prompts, or a number of prompts.")
    if "{words}" not in options.reference_prompt:
        raise CLoRAError(
            '--reference-prompt must contain {words}, which stands for the LoRA\'s words, as in "a {words}".'
        )
    if options.prompts is None and options.mapping is None:
        raise CLoRAError(
            "There are no prompts: use --prompts, or --mapping to fill this project's list with your LoRAs."
        )
    if options.ray is not None:
        import_ray()


def make_plan(options: argparse.Namespace, store: Store) -> Plan:
    """Read the prompts, open the LoRA files and list all pictures. Raises: CLoRAError."""
    methods = read_methods(options.methods)
    path = options.prompts or TEMPLATES
    prompts, skipped = load_prompts(path, load_mapping(options.mapping))
    if skipped:
        print(
            f"Warning: {skipped} prompts are skipped, because the mapping has no LoRA for one of their slots.",
            file=sys.stderr,
        )
    prompts = in_turn(prompts, options.limit)
    library = LoraLibrary(options.lora_dir or [EMBEDDED_LORAS])
    compositions = [read_prompt(prompt, library) for prompt in prompts]
    uses = tuple(dict.fromkeys(use for one in compositions for use in uses_of(one)))
    studio = make_studio(options, {use.name: library.path(use.name).absolute() for use in uses})
    model = studio.model or EMBEDDED_MODEL
    if not model.exists():
        raise CLoRAError(f"The model {model} does not exist: check the path.")
    contents = Contents(store.content_of(model), {name: store.content_of(file) for name, file in studio.files.items()})
    plain = [plain_text(one) for one in compositions]
    texts = [(p.id, p.kind, p.text, text) for p, text in zip(prompts, plain, strict=True)]
    planner = Planner(studio, contents, options.references, options.reference_prompt)
    work = planner.work(texts, compositions, methods, range(options.seeds))
    _check_references(work)
    return Plan(studio, work, uses, path.name, skipped)


def in_turn(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    """At most `limit` prompts (0: all), chosen from every kind in turn, in their original order."""
    kinds: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        kinds.setdefault(prompt.kind, []).append(prompt)
    longest = max(map(len, kinds.values()))
    turns = [own[i] for i in range(longest) for own in kinds.values() if i < len(own)]
    chosen = {prompt.id for prompt in turns[: limit or None]}
    return [prompt for prompt in prompts if prompt.id in chosen]


def _check_references(work: Work) -> None:
    """Raises: CLoRAError if two subjects of a prompt have the same references, which makes them indistinguishable."""
    for case in work.cases:
        prompts = [subject.prompt for subject in case.subjects]
        if len(set(prompts)) < len(prompts):
            raise CLoRAError(f'The prompt "{case.id}" composes a LoRA with itself: use different LoRAs.')


def make_studio(options: argparse.Namespace, files: Mapping[str, Path]) -> Studio:
    """What all pictures share. With Ray the device need not exist on this machine."""
    guidance = options.guidance
    if guidance is None:
        guidance = 7.5 if options.model else EMBEDDED_GUIDANCE
    device = options.device if options.ray is not None and options.device else str(working_device(options.device))
    model = options.model.expanduser().absolute() if options.model else None
    return Studio(
        model, dict(files), device, options.prediction, options.steps, guidance, options.width, options.height,
        options.negative,
    )  # fmt: skip


def load_readers(options: argparse.Namespace, store: Store) -> Readers:
    """The extractors and the segmenter. They are loaded on the CPU before drawing, so that errors come early."""
    features = {"dino": load_dino(options.dino, store.content_of), "clip": load_clip(options.clip, store.content_of)}
    return Readers(features, ClipSeg(options.segmenter, store.content_of) if options.segmenter else None)


def make_setup(options: argparse.Namespace, plan: Plan, methods: Sequence[str]) -> Setup:
    """The facts about the run, for its report."""
    notes = paper.differences(plan.studio, options.dino, options.clip, methods, options.seeds, options.references)
    return Setup(
        plan.studio, plan.source, plan.skipped, options.references, options.dino, options.clip, options.segmenter,
        tuple(notes),
    )  # fmt: skip
