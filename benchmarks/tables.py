"""Rows as dicts in; a table for the terminal out. Shared by the scripts beside it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table


def as_table(title: str, rows: Sequence[dict], digits: str = ".4g") -> Table:
    """A column for each key of the first row; strings stand left, numbers right."""
    table = Table(title=title)
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(
            *(
                format(v, digits) if isinstance(v, float) else str(v)
                for v in row.values()
            )
        )
    return table
