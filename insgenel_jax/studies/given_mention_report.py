"""The study of given mentions in; tables and JSON out."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from rich import box
from rich.table import Column, Table
from rich.text import Text

from insgenel_jax.studies.given_mentions import SURE, Row, Study


def make_tables(study: Study) -> list[Table]:
    """Accuracies; differences; the golds that were left out."""
    return [accuracy_table(study), difference_table(study), left_out_table(study)]


def accuracy_table(study: Study) -> Table:
    """A row for each way to choose."""
    mean = study.candidates / study.mentions
    title = f"given mentions: {study.mentions:,} in {study.documents:,} documents, "
    title += f"{mean:.1f} candidates a mention"
    numbers = ("accuracy, %", "calibration error, %", "AUROC, %")
    numbers += (f"sure ({SURE} or more), %", "right there, %")
    table = _table(title, "system", *numbers)
    table.add_column("weights of each half")
    for row in study.rows:
        quality, sure = row.quality, row.sure
        shares = (row.accuracy, quality.error, quality.auroc)
        shares += (sure.share, sure.precision)
        shown = ["-" if math.isnan(x) else f"{100 * x:.1f}" for x in shares]
        table.add_row(row.system, *shown, Text(_weights(row)))
    return table


def difference_table(study: Study) -> Table:
    """Differences of accuracy in points."""
    title = "difference of accuracy, 95 % paired bootstrap interval"
    table = _table(title, "system", "against", "points", "interval")
    for difference in study.differences:
        points, low, high = (100 * value for value in difference.interval)
        table.add_row(
            difference.system,
            difference.against,
            f"{points:+.1f}",
            Text(f"[{low:+.1f}, {high:+.1f}]"),
        )
    return table


def left_out_table(study: Study) -> Table:
    """Gold mentions that are in no row, by the reason."""
    table = _table("gold mentions left out", "reason", "mentions")
    for reason, count in study.left_out.items():
        table.add_row(reason, f"{count:,}")
    return table


def write_json(path: str | os.PathLike, study: Study) -> None:
    """Write all numbers of the tables."""
    record = {
        "documents": study.documents,
        "mentions": study.mentions,
        "candidates": study.candidates,
        "left_out": dict(study.left_out),
        "skipped": dict(study.skipped),
        "rows": [
            {
                "system": row.system,
                "features": row.features,
                "weights": row.weights,
                "accuracy": row.accuracy,
                "calibration_error": row.quality.error,
                "auroc": _known(row.quality.auroc),
                "sure": row.sure.share,
                "right_where_sure": _known(row.sure.precision),
            }
            for row in study.rows
        ],
        "differences": [
            {"system": d.system, "against": d.against, **d.interval._asdict()}
            for d in study.differences
        ],
    }
    text = json.dumps(record, ensure_ascii=False, indent=1)
    Path(path).write_text(text + "\n", encoding="utf-8")


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _weights(row: Row) -> str:
    """The weight of each feature in each half."""
    by_feature = zip(row.features, zip(*row.weights, strict=True), strict=False)
    return ", ".join(
        f"{name} " + "/".join(f"{weight:.2f}" for weight in weights)
        for name, weights in by_feature
    )


def _table(title: str, first: str, *others: str) -> Table:
    columns = [Column(name, justify="right") for name in others]
    return Table(first, *columns, title=Text(title), box=box.SIMPLE_HEAD)
