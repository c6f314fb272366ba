"""One evaluation from the command line's options: what is checked before anything is drawn, and what is written."""

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
from .store import Store
from .summary import summarize
from .work import Contents, Planner, Studio, Work, uses_of

INTERRUPTED = 130
"""Exit code after Ctrl+C, as shells have it."""


@dataclass(frozen=True)
class Plan:
    """What is asked for: `uses` are all LoRAs of all prompts, `source` the prompt list's name."""

    studio: Studio
    work: Work
    uses: tuple[LoraUse, ...]
    source: str
    skipped: int


def evaluate(options: argparse.Namespace) -> int:
    """Draw, measure, report. Returns the exit code. Errors: CLoRAError, before anything is drawn where it can be."""
    check(options)
    store = Store(options.out)
    plan = make_plan(options, store)
    run = Run(store, plan.studio, plan.work, load_readers(options, store))
    try:
        run.draw(plan.uses, options.ray)
        scores = run.scores()
    except KeyboardInterrupt:
        done, total = len(plan.work.items) - len(run.missing()), len(plan.work.items)
        told = f"{done} of {total} pictures are in {options.out}; the same command goes on from there."
        print(f"Interrupted: {told}", file=sys.stderr)
        return INTERRUPTED
    names = [method.name for method in plan.work.methods]
    found = summarize(scores, names)
    setup = make_setup(options, plan, names)
    print(markdown(setup, plan.work, found))
    everything = json.dumps(as_json(setup, plan.work, scores, found), indent=1, ensure_ascii=False)
    for name, text in (("report.json", everything), ("report.html", html(setup, plan.work, scores, found))):
        (options.out / name).write_text(text, "utf-8")
        print(options.out / name, file=sys.stderr)
    return 0


def check(options: argparse.Namespace) -> None:
    """Errors: CLoRAError for options that no run could have."""
    for name in ("seeds", "references", "steps"):
        if getattr(options, name) < 1:
            raise CLoRAError(f"--{name} is {getattr(options, name)}: use 1 or more.")
    if options.limit < 0:
        raise CLoRAError(f"--limit is {options.limit}: use 0 for all prompts, or a number of prompts.")
    if "{words}" not in options.reference_prompt:
        raise CLoRAError('--reference-prompt must hold {words}, the place of the LoRA\'s own words, as in "a {words}".')
    if options.prompts is None and options.mapping is None:
        raise CLoRAError("Name your prompts with --prompts, or the LoRAs for this project's list with --mapping.")
    if options.ray is not None:
        import_ray()


def make_plan(options: argparse.Namespace, store: Store) -> Plan:
    """Prompts read, LoRA files opened, every picture named."""
    methods = read_methods(options.methods)
    path = options.prompts or TEMPLATES
    prompts, skipped = load_prompts(path, load_mapping(options.mapping))
    if skipped:
        print(f"{skipped} prompts are skipped: the mapping names no LoRA for one of their slots.", file=sys.stderr)
    prompts = in_turn(prompts, options.limit)
    library = LoraLibrary(options.lora_dir or [EMBEDDED_LORAS])
    compositions = [read_prompt(prompt, library) for prompt in prompts]
    uses = tuple(dict.fromkeys(use for one in compositions for use in uses_of(one)))
    studio = make_studio(options, {use.name: library.path(use.name).absolute() for use in uses})
    model = studio.model or EMBEDDED_MODEL
    if not model.exists():
        raise CLoRAError(f"The model {model} does not exist: check its folder and its name.")
    contents = Contents(store.content_of(model), {name: store.content_of(file) for name, file in studio.files.items()})
    plain = [plain_text(one) for one in compositions]
    texts = [(p.id, p.kind, p.text, text) for p, text in zip(prompts, plain, strict=True)]
    planner = Planner(studio, contents, options.references, options.reference_prompt)
    work = planner.work(texts, compositions, methods, range(options.seeds))
    _check_references(work)
    return Plan(studio, work, uses, path.name, skipped)


def in_turn(prompts: Sequence[Prompt], limit: int) -> list[Prompt]:
    """The first prompts of every kind in turn, `limit` in all (0: all), in their own order."""
    kinds: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        kinds.setdefault(prompt.kind, []).append(prompt)
    longest = max(map(len, kinds.values()))
    turns = [own[i] for i in range(longest) for own in kinds.values() if i < len(own)]
    chosen = {prompt.id for prompt in turns[: limit or None]}
    return [prompt for prompt in prompts if prompt.id in chosen]


def _check_references(work: Work) -> None:
    """Errors: CLoRAError where two subjects would have the same references: nothing could tell them apart."""
    for case in work.cases:
        prompts = [subject.prompt for subject in case.subjects]
        if len(set(prompts)) < len(prompts):
            raise CLoRAError(f'The prompt "{case.id}" composes one LoRA with itself: name different LoRAs.')


def make_studio(options: argparse.Namespace, files: Mapping[str, Path]) -> Studio:
    """What all pictures share. A device for Ray's workers need not be on this machine."""
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
    """The models that look at pictures, on the CPU until all are drawn: so mistakes in their names come first."""
    features = {"dino": load_dino(options.dino, store.content_of), "clip": load_clip(options.clip, store.content_of)}
    return Readers(features, ClipSeg(options.segmenter, store.content_of) if options.segmenter else None)


def make_setup(options: argparse.Namespace, plan: Plan, methods: Sequence[str]) -> Setup:
    """How the run was made, for its report."""
    notes = paper.differences(plan.studio, options.dino, options.clip, methods, options.seeds, options.references)
    return Setup(
        plan.studio, plan.source, plan.skipped, options.references, options.dino, options.clip, options.segmenter,
        tuple(notes),
    )  # fmt: skip
