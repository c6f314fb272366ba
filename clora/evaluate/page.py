"""The report as an HTML page; pictures are linked files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from . import paper
from .report import Setup, Table, banner, extent, mean_matrix, tables
from .scores import KINDS, Score
from .work import Case, Work

SHOWN_SEEDS, SHOWN_REFERENCES = 3, 4
_STYLE = Path(__file__).with_name("page.css")
_TITLES = {"dino": "DINO", "clip": "CLIP-I"}


def html(setup: Setup, work: Work, scores: Sequence[Score], found: Mapping[str, Any]) -> str:
    """The whole page. All text from the user is escaped."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>clora evaluate</title><style>{_STYLE.read_text('utf-8')}</style><h1>clora evaluate</h1>",
        _banner(setup),
        _facts(setup.facts(work)),
        *_results(found),
        f"<p class=small>{escape(paper.SCALE)} {escape(paper.CHOICE)}</p>",
        "<h2>Pictures</h2>",
        _legend(work),
        *(_case(case, work, scores) for case in work.cases),
    ]
    return "\n".join(parts) + "\n</html>\n"


def _banner(setup: Setup) -> str:
    head, *rest = banner(setup)
    return f"<div class=banner role=note><b>{escape(head)}</b> {escape(' '.join(rest))}</div>"


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th scope=row>{escape(name)}<td>{escape(value)}" for name, value in facts.items())
    return f"<table class=facts>{rows}</table>"


def _results(found: Mapping[str, Any]) -> Iterator[str]:
    for number, (group, methods) in enumerate(found.items()):
        head = f"{escape(group)} <small>{extent(methods)}</small>"
        body = "".join(_table(table) for table in tables(group, methods))
        yield f"<h2>{head}</h2>{body}" if not number else f"<details><summary>{head}</summary>{body}</details>"


def _table(table: Table) -> str:
    best = _best(table)
    head = "".join(f"<th scope=col>{escape(column)}" for column in table.columns)
    rows = []
    for name, papers, cells in table.rows:
        marked = (
            f"<td class=best>{escape(cell)}" if not papers and cell == best.get(column) else f"<td>{escape(cell)}"
            for column, cell in enumerate(cells)
        )  # fmt: skip
        rows.append(f"<tr{' class=paper' if papers else ''}><th scope=row>{escape(name)}{''.join(marked)}")
    caption = escape(table.title)
    return f"<div class=wide><table><caption>{caption}</caption><tr><th>method{head}{''.join(rows)}</table></div>"


def _best(table: Table) -> dict[int, str]:
    """The best cell of each column, if the run has several methods.

    Of the leak only the difference between own and others' similarity can be compared.
    """
    own = [cells for _, papers, cells in table.rows if not papers]
    found: dict[int, str] = {}
    for column, label in enumerate(table.columns):
        if label.endswith((" own", " others'")) and "minus" not in label:
            continue
        cells = [cells[column] for cells in own if cells[column] != "–"]
        if len(set(cells)) > 1:
            low = label in ("seconds", "GB")
            found[column] = (min if low else max)(cells, key=lambda cell: float(cell.rstrip("%")))
    return found


def _legend(work: Work) -> str:
    seeds = _seeds(work)
    text = (
        f"For each prompt: the first {SHOWN_REFERENCES} reference pictures of each LoRA alone, then one row for each "
        f"of the seeds {', '.join(map(str, seeds))} with one picture per method. Below each picture are its DINO "
        "similarities to each LoRA's references, in the order of the prompt. In the leak matrix a row is a subject's "
        "crop and a column a LoRA's references: the diagonal should be the largest value of each row."
    )
    return f"<p class=small>{escape(text)}</p>"


def _seeds(work: Work) -> tuple[int, ...]:
    return work.seeds[:SHOWN_SEEDS]


def _case(case: Case, work: Work, scores: Sequence[Score]) -> str:
    own = [score for score in scores if score.case.id == case.id]
    references = "".join(
        f"<figure><div>{''.join(_image(key, subject.label, 'small') for key in subject.references[:SHOWN_REFERENCES])}"
        f"</div><figcaption>{escape(subject.label)}<br><code>{escape(subject.prompt)}</code></figcaption></figure>"
        for subject in case.subjects
    )
    head = "".join(f"<th scope=col>{escape(method.name)}" for method in work.methods)
    rows = "".join(_row(seed, work, {(s.method, s.seed): s for s in own}) for seed in _seeds(work))
    matrices = "".join(_matrix(case, work, own, kind) for kind in KINDS)
    return (
        f"<section><h3>{escape(case.id)} <small>{escape(case.kind)}</small></h3><p><code>{escape(case.text)}</code></p>"
        f"<div class=references>{references}</div>"
        f"<div class=wide><table class=pictures><tr><th>seed{head}{rows}</table></div>"
        + (f"<details><summary>leak matrix</summary>{matrices}</details>" if matrices else "")
        + "</section>"
    )


def _row(seed: int, work: Work, scores: Mapping[tuple[str, int], Score]) -> str:
    cells = []
    for method in work.methods:
        score = scores[method.name, seed]
        numbers = " / ".join(f"{value:.3f}" for value in score.whole["dino"])
        title = f"{score.case.id}, {method.name}, seed {seed}"
        cells.append(f"<td>{_image(score.picture, title)}<br><small>{numbers}</small>")
    return f"<tr><th scope=row>{seed}{''.join(cells)}"


def _image(key: str, title: str, kind: str = "") -> str:
    source, text = f"pictures/{escape(key)}.png", escape(title, quote=True)
    return f'<a href="{source}"><img class="{kind}" loading=lazy src="{source}" alt="{text}" title="{text}"></a>'


def _matrix(case: Case, work: Work, scores: Iterable[Score], kind: str) -> str:
    parts = []
    for method in work.methods:
        values = mean_matrix([s for s in scores if s.method == method.name], kind)
        if values is None:
            continue
        head = "".join(f"<th scope=col>{escape(subject.label)}" for subject in case.subjects)
        rows = "".join(
            f"<tr><th scope=row>crop: {escape(subject.label)}"
            + "".join(f"<td{' class=best' if i == j else ''}>{value:.3f}" for j, value in enumerate(values[i]))
            for i, subject in enumerate(case.subjects)
        )
        parts.append(f"<table><caption>{_TITLES[kind]}, {escape(method.name)}</caption><tr><th>{head}{rows}</table>")
    return f"<div class=matrices>{''.join(parts)}</div>" if parts else ""
