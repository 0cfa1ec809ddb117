"""Rows as dicts in; a table for the terminal out. Shared by the scripts beside it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table


def as_table(title: str, rows: Sequence[dict], digits: str = ".4g") -> Table:
    """A column for each key, "-" where a row has none; strings left, numbers right."""
    table = Table(title=title)
    for name in dict.fromkeys(name for row in rows for name in row):
        left = isinstance(rows[0].get(name), str)
        table.add_column(name, justify="left" if left else "right")
    for row in rows:
        cells = (row.get(str(column.header), "-") for column in table.columns)
        table.add_row(*(_as_text(cell, digits) for cell in cells))
    return table


def _as_text(value, digits: str) -> str:
    if isinstance(value, float):
        return format(value, digits if abs(value) < 1000 else ",.0f")
    return str(value)
