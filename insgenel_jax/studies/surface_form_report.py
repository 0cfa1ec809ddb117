"""Rows of the study of surface forms in; tables, JSON and a figure out."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Column, Table
from rich.text import Text

from insgenel_jax.kb.build.name_rules import FORM_RULES
from insgenel_jax.studies.surface_forms import Row


def label(row: Row) -> str:
    """What a row's dictionary has: "dictionary", "words", "... + words" with all rules
    before it, "all rules"."""
    if not row.rules:
        return "dictionary"
    if row.rules == FORM_RULES:
        return "all rules"
    return row.rules[0] if len(row.rules) == 1 else f"... + {row.rules[-1]}"


def figures(row: Row) -> dict[str, float]:
    """Percentages of the golds, and means a gold and a document."""
    golds, texts = max(row.golds, 1), max(row.texts, 1)
    numbers = {
        "found, %": 100 * row.found / golds,
        "candidates a gold": row.candidates / golds,
        "matches a document": row.matches / texts,
    }
    if row.kept is not None and row.kept_candidates is not None:
        numbers["found and retrieved, %"] = 100 * row.kept / golds
        numbers["retrieved candidates a gold"] = row.kept_candidates / golds
    return numbers


def make_tables(rows: Sequence[Row]) -> list[Table]:
    """A table for each set of documents."""
    tables = []
    for name, of_set in _by_set(rows):
        first = of_set[0]
        known = 100 * first.known / max(first.golds, 1)
        title = f"{name}: {first.texts:,} documents, {first.golds:,} golds, "
        title += f"{known:.1f} % of them in the knowledge base"
        columns = [Column(column, justify="right") for column in figures(first)]
        table = Table("surface forms", *columns, title=Text(title))
        for row in of_set:
            table.add_row(label(row), *(f"{n:,.1f}" for n in figures(row).values()))
        tables.append(table)
    return tables


def write_json(path: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Write every row: its counts, and what the table shows of it."""
    records = [
        {
            **{name: value for name, value in vars(row).items() if value is not None},
            **figures(row),
        }
        for row in rows
    ]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(records, file, ensure_ascii=False, indent=1)
        file.write("\n")


def draw(path: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Draw coverage against candidates a mention, one panel for each set of documents.

    A line leads from the knowledge base as it is, over one rule more at each point, to
    all rules. Crosses are rules alone. The dashed line is the most that can be found.
    """
    from matplotlib.figure import Figure

    sets = list(_by_set(rows))
    figure = Figure(figsize=(5 * len(sets), 4.5), layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for panel, (name, of_set) in zip(panels, sets, strict=True):
        points = {row.rules: list(figures(row).values())[:2] for row in of_set}
        one_more = [points[FORM_RULES[:count]] for count in range(len(FORM_RULES) + 1)]
        found, candidates = zip(*one_more, strict=True)
        panel.plot(candidates, found, "o-", label="dictionary, one rule more at a time")
        alone = [points[rule,] for rule in FORM_RULES]
        found, candidates = zip(*alone, strict=True)
        panel.plot(candidates, found, "x", label="one rule alone")
        for rule, (share, mean) in zip(FORM_RULES, alone, strict=True):
            panel.annotate(rule, (mean, share), fontsize=7)
        first = of_set[0]
        panel.axhline(100 * first.known / max(first.golds, 1), linestyle="--")
        panel.set(xscale="symlog", title=Path(name).stem, xlim=(0, None))
        panel.set(xlabel="candidates a gold mention", ylim=(None, 100))
        panel.set_ylabel("golds whose entity is a candidate, %")
        panel.legend(fontsize=7, loc="upper left")
    figure.savefig(path, dpi=150)


def _by_set(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each set of documents."""
    for name, of_set in itertools.groupby(rows, lambda row: row.documents):
        yield name, list(of_set)
