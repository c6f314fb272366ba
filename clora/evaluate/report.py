"""The report of a run: tables in Markdown, and all results as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import paper
from .scores import Score
from .summary import ALL, COST, TABLES, Measure
from .work import Studio, Work


@dataclass(frozen=True)
class Setup:
    """The facts about a run. `notes` are sentences about its differences from the paper."""

    studio: Studio
    prompts: str
    skipped: int
    references: int
    dino: str
    clip: str
    segmenter: str
    notes: tuple[str, ...]

    def facts(self, work: Work) -> dict[str, str]:
        """Names and values for the top of the report."""
        s = self.studio
        size = f"{s.width} x {s.height} pixels" if s.width and s.height else "the model's own size"
        return {
            "model": str(s.model) if s.model else "the embedded model",
            "prompts": f"{len(work.cases)} of {self.prompts}"
            + (f", {self.skipped} skipped (slots without a LoRA)" if self.skipped else ""),
            "methods": ", ".join(method.name for method in work.methods),
            "seeds": f"{work.seeds[0]} to {work.seeds[-1]}",
            "reference pictures": f"{self.references} per LoRA and reference prompt",
            "sampling": f"{s.steps} steps, guidance {s.guidance:g}, {size}, on {s.device}",
            "DINO": self.dino,
            "CLIP": self.clip,
            "segmenter": self.segmenter or "none: no instance level, no leak matrix",
        }


@dataclass(frozen=True)
class Table:
    """A table as text: `rows` are (name, whether it is the paper's, cells)."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, bool, tuple[str, ...]], ...]


def tables(group: str, methods: Mapping[str, Any]) -> Iterator[Table]:
    """The tables of one group of prompts; the tables of all prompts have the paper's results below."""
    for title, measures in TABLES:
        shown = [m for m in measures if m in COST or any(m.name in own for own in methods.values())]
        if not shown:
            continue
        rows = [(name, False, tuple(_cell(own.get(m.name), m) for m in shown)) for name, own in methods.items()]
        for name, figures in paper.FIGURES[title].items() if group == ALL else ():
            cells = tuple(m.form.format(figures[m.name]) if m.name in figures else "–" for m in shown)
            if any(cell != "–" for cell in cells):
                rows.append((f"paper: {name}", True, cells))
        yield Table(title, tuple(m.label for m in shown), tuple(rows))


def _cell(value: Mapping[str, float] | None, measure: Measure) -> str:
    return "–" if value is None else measure.form.format(value["mean"])


def extent(methods: Mapping[str, Any]) -> str:
    """The number of prompts and pictures behind a group's tables."""
    first = next(iter(methods.values()))
    numbers = ((first["prompts"], "prompt"), (first["pictures"], "picture"))
    counts = [f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in numbers]
    return f"{counts[0]}, {counts[1]} per method"


def banner(setup: Setup) -> list[str]:
    """The sentences shown above all numbers."""
    return [paper.HEADLINE, *setup.notes, paper.OWN]


def markdown(setup: Setup, work: Work, found: Mapping[str, Any]) -> str:
    """The report for a terminal."""
    parts = ["> **" + paper.HEADLINE + "** " + " ".join(banner(setup)[1:])]
    parts.append("\n".join(f"- {name}: {value}" for name, value in setup.facts(work).items()))
    for group, methods in found.items():
        parts.append(f"## {group} ({extent(methods)})")
        for table in tables(group, methods):
            lines = [f"**{table.title}**", "", f"| method | {' | '.join(table.columns)} |"]
            lines.append("|---" * (len(table.columns) + 1) + "|")
            lines += [f"| {name} | {' | '.join(cells)} |" for name, _, cells in table.rows]
            parts.append("\n".join(lines))
    parts.append(f"{paper.SCALE} {paper.CHOICE}")
    return "\n\n".join(parts)


def as_json(setup: Setup, work: Work, scores: Sequence[Score], found: Mapping[str, Any]) -> dict[str, Any]:
    """All results: setup, means with intervals by group and method, the paper's results, and every picture's scores."""
    return {
        "note": banner(setup),
        "setup": setup.facts(work),
        "methods": {m.name: dict(m.settings.changed()) for m in work.methods},
        "groups": found,
        "paper": paper.FIGURES,
        "cases": [
            {"id": c.id, "kind": c.kind, "prompt": c.text, "text": c.plain, "subjects": [s.label for s in c.subjects],
             "references": [s.prompt for s in c.subjects]}
            for c in work.cases
        ],
        "pictures": [_picture(score) for score in scores],
    }  # fmt: skip


def _picture(score: Score) -> dict[str, Any]:
    matrix = None if score.matrix is None else {kind: _rounded(own) for kind, own in score.matrix.items()}
    return {
        "case": score.case.id, "method": score.method, "seed": score.seed, "picture": f"pictures/{score.picture}.png",
        **{kind: _rounded(own) for kind, own in score.whole.items()}, "clip_t": round(score.text, 5),
        "matrix": matrix, "found": score.found, "seconds": score.seconds, "memory": score.memory,
    }  # fmt: skip


def _rounded(values: Any) -> Any:
    return np.round(np.asarray(values, float), 5).tolist()


def mean_matrix(scores: Sequence[Score], kind: str) -> list[list[float]] | None:
    """The leak matrix of one case and method, averaged over seeds: crops in rows, LoRAs in columns."""
    matrices = [score.matrix[kind] for score in scores if score.matrix is not None]
    return _rounded(np.mean(matrices, axis=0)) if matrices else None
