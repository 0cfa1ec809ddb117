"""An evaluation, or what tuning found, in; tables and a JSON file out."""

from __future__ import annotations

import collections
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from insgenel_jax.evaluation import calibration, scoring
from insgenel_jax.evaluation.losses import STAGES
from insgenel_jax.evaluation.run import (
    RECALL_AT,
    Comparison,
    Evaluation,
    Result,
    recall_at,
)
from insgenel_jax.evaluation.scoring import Scores
from insgenel_jax.evaluation.thresholds import Calibrated
from insgenel_jax.evaluation.tuning import Tuned


def make_tables(evaluation: Evaluation) -> list[Table]:
    """Scores, cost, losses by stage and comparisons, each table where there is any."""
    results = evaluation.results
    tables = [score_table(results, evaluation.mode), cost_table(results)]
    if evaluation.mode == "elevant":
        tables.insert(1, elevant_table(results))
    if any(result.losses is not None for result in results):
        tables.append(loss_table(results))
    if evaluation.comparisons:
        tables.append(comparison_table(evaluation.comparisons))
    return tables


def score_table(results: Sequence[Result], mode: str) -> Table:
    """A row for each set and system; scores in percent."""
    checked = all(result.scores.titles_checked for result in results)
    title = "InKB, elevant mode"
    if mode == "gerbil":
        title = "InKB, strong match (gerbil mode); gold titles "
        title += "checked" if checked else "not checked"
    table = _table(
        title,
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


def elevant_table(results: Sequence[Result]) -> Table:
    """The counts of ELEVANT: true positives, false positives, false negatives."""
    table = _table(
        'tp fp fn of all, entities, coreferences, and of finding entities ("ner")',
        ("all", "entity", "coref", "ner", "no id"),
    )
    for result in results:
        if (counts := result.elevant) is not None:
            kinds = (counts.all, counts.entity, counts.coref, counts.detection)
            shown = [" ".join(map(str, kind)) for kind in kinds]
            table.add_row(*_names(result), *shown, str(result.unmapped))
    return table


def cost_table(results: Sequence[Result]) -> Table:
    """Scores of the golds that our knowledge base holds; seconds and calls."""
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
    """In-KB golds without a matching prediction, by the stage that lost them."""
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


def make_tuning_tables(tuned: Tuned) -> list[Table]:
    """What each change of tuning gained, and how good the scores are now."""
    steps = Table(
        title="tuning: mean of the sets' micro F1, 95 % paired bootstrap interval",
        box=box.SIMPLE_HEAD,
    )
    for name in ("setting", "old", "new"):
        steps.add_column(name, overflow="fold")
    for name in ("before", "after", "points", "interval", "s"):
        steps.add_column(name, justify="right")
    for step in tuned.steps:
        difference, low, high = (100 * value for value in step.interval)
        steps.add_row(
            step.setting,
            *(Text(_value(value)) for value in (step.old, step.new)),
            _percent(step.before),
            _percent(step.after),
            f"{difference:+.1f}",
            f"[{low:+.1f}, {high:+.1f}]",
            f"{step.seconds:.0f}",
        )
    tables = [steps] if tuned.prior is None else [steps, _prior_table(tuned)]
    return [
        *tables,
        _quality_table(tuned.calibrated),
        _threshold_table(tuned.calibrated),
    ]


def _prior_table(tuned: Tuned) -> Table:
    """The prior-only baseline's F1 on what was tuned on, beside the linker's."""
    table = Table(
        title="micro F1 on what was tuned on (scores cross-fitted), and the difference",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("set", overflow="fold")
    for name in ("prior", "linker", "points", "interval"):
        table.add_column(name, justify="right")
    theirs, ours = tuned.prior.calibrated.best.counts, tuned.calibrated.best.counts
    names = tuned.calibrated.names
    rows = [(n, [a], [b]) for n, a, b in zip(names, theirs, ours, strict=True)]
    for name, a, b in [*rows, ("mean", theirs, ours)]:
        difference, low, high = (100 * x for x in scoring.compare_means(b, a))
        table.add_row(
            Text(name),
            _percent(scoring.mean_f1(a)),
            _percent(scoring.mean_f1(b)),
            f"{difference:+.1f}",
            f"[{low:+.1f}, {high:+.1f}]",
        )
    return table


def _quality_table(calibrated: Calibrated) -> Table:
    """Of all links taken, with and without a calibrator; and of each set's."""
    table = Table(title="scores of the links taken", box=box.SIMPLE_HEAD)
    table.add_column("score")
    names = ("links", "right", "calibration error", "AUROC", "share at 0.9 or more")
    for name in (*names, "right there"):
        table.add_column(name, justify="right")
    sets, everything = np.array(calibrated.sets), np.ones(len(calibrated.sets), bool)
    rows = [(name, scores, everything) for name, scores in calibrated.scores.items()]
    for name in dict.fromkeys(calibrated.sets):
        scores = calibrated.scores["calibrated"]
        rows.append((f"calibrated, {name}", scores, sets == name))
    for name, scores, chosen in rows:
        scores, right = scores[chosen], calibrated.right[chosen]
        quality = calibration.measure(scores, right)
        sure = calibration.keep(scores, right, 0.9)
        shares = (quality.right, quality.error, quality.auroc, *sure[1:])
        table.add_row(name, str(quality.links), *map(_percent, shares))
    return table


def _threshold_table(calibrated: Calibrated) -> Table:
    table = Table(title="calibrated score of at least t", box=box.SIMPLE_HEAD)
    for name in ("t", "links kept", "precision"):
        table.add_column(name, justify="right")
    for threshold in sorted({0.0, 0.25, 0.5, 0.75, 0.9, calibrated.threshold}):
        kept = calibration.keep(
            calibrated.scores["calibrated"], calibrated.right, threshold
        )
        chosen = " (chosen)" if threshold == calibrated.threshold else ""
        shares = (kept.share, kept.precision)
        table.add_row(f"{threshold:g}{chosen}", *map(_percent, shares))
    return table


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def write_json(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Write all numbers of the tables, and the counts of every document."""
    record = {
        "mode": evaluation.mode,
        "results": [_result_to_json(result) for result in evaluation.results],
        "comparisons": [
            {
                "set": c.dataset,
                "system": c.system,
                "against": c.against,
                **c.interval._asdict(),
            }
            for c in evaluation.comparisons
        ],
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _result_to_json(result: Result) -> dict[str, Any]:
    record = {
        "set": result.dataset,
        "system": result.system,
        "settings": dict(result.settings),
        **_scores_to_json(result.scores),
        "within_our_kb": result.within and _scores_to_json(result.within),
        "losses": result.losses and dict(result.losses),
        "losses_per_document": result.losses
        and [
            dict(collections.Counter(stage for _, stage in lost))
            for lost in result.lost
        ],
        "recall": result.ranks
        and {str(k): recall_at(result.ranks, k) for k in RECALL_AT},
        "seconds": result.seconds,
        "calls": result.calls,
        "decoder": result.decoder,
        "per_document": result.scores.per_document.tolist(),
    }
    if (counts := result.elevant) is not None:
        kinds = ("all", "entity", "coref", "detection")
        record["elevant"] = {kind: list(getattr(counts, kind)) for kind in kinds}
        record["links_without_id"] = result.unmapped
    return record


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
    """Set and system as plain text: rich would read brackets in a name as markup."""
    return Text(row.dataset), Text(row.system)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _per_document(total: float | None, documents: int, form: str) -> str:
    return "-" if total is None or not documents else format(total / documents, form)
