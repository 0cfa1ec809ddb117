"""The rows of a study in; a table, JSON and a figure out.

A row is a dictionary from the name of a column to its value. The rows of a study have
the same columns.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from insgenel_jax.text.formats.rejects import InputError

Row = Mapping[str, Any]
Progress = Callable[[str], None]


def silent(message: str) -> None:
    """Progress that nobody is told of."""


def make_table(title: str, rows: Sequence[Row]) -> Table:
    """A line for each row; numbers stand on the right."""
    columns = [
        Column(name, justify="left" if isinstance(value, str) else "right")
        for name, value in rows[0].items()
    ]
    table = Table(*columns, title=Text(title))
    for row in rows:
        table.add_row(*(Text(show(value)) for value in row.values()))
    return table


def show(value: Any) -> str:
    """A value in a table: three significant digits below 10, thousands with commas."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}"


def write_json(path: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Write the rows as they are; NaN becomes null."""
    records = [
        {
            name: None if isinstance(v, float) and math.isnan(v) else v
            for name, v in row.items()
        }
        for row in rows
    ]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(records, file, ensure_ascii=False, indent=1)
        file.write("\n")


def check_plotting() -> None:
    """Raise InputError where the library that draws figures is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(
            "a figure: expected matplotlib, which is not installed; "
            'pip install "insgenel_jax[plot]"'
        ) from error


def draw(
    path: str | os.PathLike,
    rows: Sequence[Row],
    x: str,
    ys: Sequence[str],
    line: str,
) -> None:
    """Draw the columns `ys` over the column `x`, one panel each.

    line: the column whose every value is a line of its own. Numbers in `x` that span
    more than a factor of 20 stand on a logarithmic axis; words are places on it. Rows
    without a value in a panel's column are left out there.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(ys), 4), layout="constrained")
    panels = figure.subplots(1, len(ys), squeeze=False)[0]
    for panel, y in zip(panels, ys, strict=True):
        for name in dict.fromkeys(row[line] for row in rows):
            of_line = [r for r in rows if r[line] == name and r.get(y) is not None]
            points = [(row[x], row[y]) for row in of_line]
            panel.plot(*zip(*points, strict=True), "o-", label=str(name))
        panel.set(xlabel=x, ylabel=y)
        panel.legend(fontsize=7)
        numbers = [row[x] for row in rows if isinstance(row[x], int | float)]
        if len(numbers) < len(rows):
            panel.tick_params(axis="x", rotation=30)
        elif min(numbers) > 0 and max(numbers) > 20 * min(numbers):
            panel.set_xscale("log")
    figure.savefig(path, dpi=150)
