"""Results of evaluations in; tables for the terminal and JSON out."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from insgenel_jax.evaluation.scoring import STAGES, Interval, Scores


@dataclasses.dataclass(frozen=True)
class Result:
    """One system on one set. What is not known of it is None.

    within: scores with the golds outside our knowledge base made NIL. losses: by stage.
    seconds, calls: of the whole set. settings: what the system was run with.
    """

    dataset: str
    system: str
    scores: Scores
    within: Scores | None = None
    losses: Mapping[str, int] | None = None
    seconds: float | None = None
    calls: int | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The difference in micro F1 of two systems on one set."""

    dataset: str
    system: str
    against: str
    interval: Interval


def score_table(results: Sequence[Result]) -> Table:
    """One row for each set and system; scores in percent."""
    checked = all(result.scores.titles_checked for result in results)
    table = _table(
        "InKB, strong match (gerbil mode); gold titles "
        + ("checked" if checked else "not checked"),
        ("docs", "golds", "P", "R", "F1", "macro F1", "detection", "accuracy"),
    )
    previous = None
    for result in results:
        scores = result.scores
        if previous not in (None, result.dataset):
            table.add_section()
        table.add_row(
            *_names(result),
            str(scores.documents),
            str(scores.golds),
            *map(_percent, scores.micro),
            _percent(scores.macro.f1),
            _percent(scores.detection.f1),
            _percent(scores.accuracy),
        )
        previous = result.dataset
    return table


def cost_table(results: Sequence[Result]) -> Table:
    """Scores within our knowledge base, and what the answers cost."""
    table = _table(
        "golds in our knowledge base alone; cost",
        ("golds", "P", "R", "F1", "s/document", "calls/document"),
    )
    for result in results:
        within = result.within
        table.add_row(
            *_names(result),
            *(["-"] * 4 if within is None else [str(within.golds)]),
            *([] if within is None else map(_percent, within.micro)),
            _per_document(result.seconds, result.scores.documents, ".3f"),
            _per_document(result.calls, result.scores.documents, ".1f"),
        )
    return table


def loss_table(results: Sequence[Result]) -> Table:
    """In-KB golds not found, by the stage that lost them."""
    table = _table("golds lost, by stage", ("golds", "found", *STAGES))
    for result in results:
        if result.losses is not None:
            table.add_row(
                *_names(result),
                str(result.scores.golds),
                str(result.scores.counts.tp),
                *(str(result.losses[stage]) for stage in STAGES),
            )
    return table


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Differences of micro F1 in points."""
    table = _table(
        "difference of micro F1, 95 % paired bootstrap interval",
        ("against", "points", "interval"),
    )
    for comparison in comparisons:
        difference, low, high = (100 * value for value in comparison.interval)
        table.add_row(
            *_names(comparison),
            Text(comparison.against),
            f"{difference:+.1f}",
            f"[{low:+.1f}, {high:+.1f}]",
        )
    return table


def write_json(
    path: str | os.PathLike,
    results: Sequence[Result],
    comparisons: Sequence[Comparison] = (),
) -> None:
    """All numbers of the tables, and the counts of every document."""
    record = {
        "mode": "gerbil",
        "results": [_result_to_json(result) for result in results],
        "comparisons": [
            {
                "set": c.dataset,
                "system": c.system,
                "against": c.against,
                **c.interval._asdict(),
            }
            for c in comparisons
        ],
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _result_to_json(result: Result) -> dict[str, Any]:
    return {
        "set": result.dataset,
        "system": result.system,
        "settings": dict(result.settings),
        **_scores_to_json(result.scores),
        "within_our_kb": result.within and _scores_to_json(result.within),
        "losses": result.losses and dict(result.losses),
        "seconds": result.seconds,
        "calls": result.calls,
        "per_document": result.scores.per_document.tolist(),
    }


def _scores_to_json(scores: Scores) -> dict[str, Any]:
    return {
        "documents": scores.documents,
        "golds": scores.golds,
        "predictions": scores.predictions,
        **scores.counts._asdict(),
        "micro": scores.micro._asdict(),
        "macro": scores.macro._asdict(),
        "detection": scores.detection._asdict(),
        "accuracy": None if math.isnan(scores.accuracy) else scores.accuracy,
        "titles_checked": scores.titles_checked,
    }


def _table(title: str, numbers: Sequence[str]) -> Table:
    table = Table(title=title, padding=(0, 1, 0, 0), box=box.SIMPLE_HEAD)
    table.add_column("set", overflow="fold")
    table.add_column("system", overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _names(row: Result | Comparison) -> tuple[Text, Text]:
    """Set and system as they are: brackets in a name are no markup."""
    return Text(row.dataset), Text(row.system)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _per_document(total: float | None, documents: int, form: str) -> str:
    return "-" if total is None or not documents else format(total / documents, form)
