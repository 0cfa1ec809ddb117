"""An evaluation in; one HTML file to look at out, which needs no network.

The page is assets/report.html, filled in by jinja2, which escapes all that comes from
documents, labels, links and names. Figures are SVG without any of these.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import insgenel_jax
from insgenel_jax.evaluation import figures, marking, published, scoring
from insgenel_jax.evaluation.losses import STAGES
from insgenel_jax.evaluation.run import RECALL_AT, Evaluation, Result, recall_at
from insgenel_jax.text.formats.documents import write_lines

TEMPLATE = Path(__file__).parents[1] / "assets" / "report.html"
SCORERS = {"gerbil": "GERBIL", "elevant": "ELEVANT"}
# Characters that HTML does not allow, or that a page shows as nothing.
_CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "�")


@dataclasses.dataclass(frozen=True)
class F1Row:
    """A line of the chart of a set, in percent. low, high: None where unknown.

    note: whose figure it is. same: whether it was scored by the page's rules.
    """

    name: str
    f1: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    same: bool = True
    colour: int | None = None


def write_report(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Write the page of an evaluation; the file appears when it is complete."""
    page = make_page(evaluation).encode("utf-8", "replace").decode()
    write_lines(path, [page])


def make_page(evaluation: Evaluation) -> str:
    """The page of an evaluation."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda x: x.translate(_CONTROLS) if type(x) is str else x,
    )
    environment.filters |= {"percent": percent, "each": per_document}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    systems = list(dict.fromkeys(result.system for result in evaluation.results))
    colours = {system: i % figures.COLOURS for i, system in enumerate(systems)}
    return template.render(
        version=insgenel_jax.__version__,
        mode=evaluation.mode,
        scorer=SCORERS[evaluation.mode],
        checked=all(r.scores.titles_checked for r in evaluation.results),
        stages=STAGES,
        ks=RECALL_AT,
        systems=systems,
        colours=colours,
        sets=[_view_set(evaluation, name, colours) for name in evaluation.sets],
        comparisons=evaluation.comparisons,
        results=evaluation.results,
    )


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a number in percent."""
    if share is None or math.isnan(share):
        return "–"
    return f"{100 * share:.{digits}f}"


def per_document(total: float | None, result: Result, digits: int = 2) -> str:
    """A total as one for each document."""
    documents = result.scores.documents
    return "–" if total is None or not documents else f"{total / documents:.{digits}f}"


def _view_set(
    evaluation: Evaluation, name: str, colours: dict[str, int]
) -> dict[str, Any]:
    """What the page shows of a set."""
    results = [r for r in evaluation.results if r.dataset == name]
    return {
        "name": name,
        "results": results,
        "documents": len(evaluation.sets[name]),
        "golds": results[0].scores.golds if results else 0,
        "f1": _f1_rows(results, name, evaluation.mode, colours),
        "losses": [r for r in results if r.losses is not None and r.scores.golds],
        "recall": [
            (r.system, len(r.ranks), [recall_at(r.ranks, k) for k in RECALL_AT])
            for r in results
            if r.ranks
        ],
        "published_recall": [row for row in published.find(name) if row.k],
        "figures": _figures(results, colours),
        "texts": [
            _view_document(evaluation, name, results, number)
            for number in range(len(evaluation.sets[name]))
        ],
    }


def _f1_rows(
    results: Sequence[Result], name: str, mode: str, colours: dict[str, int]
) -> list[F1Row]:
    """Ours with their intervals, in order; then those published, the best first."""
    rows = []
    for result in results:
        f1, low, high = (100 * x for x in scoring.estimate(result.scores.per_document))
        colour = colours[result.system]
        rows.append(F1Row(result.system, f1, low, high, colour=colour))
    others = [
        F1Row(row.system, row.f1, note=row.scorer, same=row.scorer == SCORERS[mode])
        for row in published.find(name)
        if row.k is None
    ]
    return rows + sorted(others, key=lambda row: -row.f1)


def _figures(
    results: Sequence[Result], colours: dict[str, int]
) -> list[dict[str, Any]]:
    """The figures of a set for which there is something to draw."""
    scored = [r for r in results if r.link_scores is not None]
    links = [(colours[r.system], r.link_scores, r.link_right) for r in scored]
    drawn = []

    def add(title: str, of: Sequence[Result], svg: str) -> None:
        systems = [r.system for r in of]
        drawn.append({"title": title, "systems": systems, "svg": Markup(svg)})

    curved = [r for r in results if r.curve]
    if curved:
        curves = [(colours[r.system], r.curve) for r in curved]
        thresholds = [r.threshold for r in curved]
        svg = figures.draw_precision_recall(curves, thresholds)
        add("Precision and recall over the threshold", curved, svg)
    if links:
        svg = figures.draw_reliability(links)
        add("Reliability: is a score the share that is right?", scored, svg)
    ranked = [r for r in results if r.ranks]
    if ranked:
        ranks = [
            (colours[r.system], [(k, recall_at(r.ranks or [], k)) for k in RECALL_AT])
            for r in ranked
        ]
        svg = figures.draw_recall(ranks)
        add("Recall at k, over the whole knowledge base", ranked, svg)
    return drawn


def _view_document(
    evaluation: Evaluation, name: str, results: Sequence[Result], number: int
) -> dict[str, Any]:
    """A document, and for each system its marked text and its errors."""
    gold = evaluation.sets[name][number]
    views = []
    for result in results:
        predicted, lost = result.predicted[number], result.lost[number]
        names = result.errors[number]
        errors = marking.find_errors(predicted, lost, names)
        tp, fp, fn = result.scores.per_document[number].tolist()
        views.append(
            {
                "system": result.system,
                "pieces": marking.cut(gold, predicted, lost, names, errors),
                "errors": errors,
                "counts": (tp, fp, fn),
            }
        )
    clean = not any(view["errors"] for view in views)
    return {"id": gold.id, "title": gold.title, "views": views, "clean": clean}
