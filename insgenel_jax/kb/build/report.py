"""What a build from Wikipedia made in; report.json, report.txt and report.html out.

The build writes the JSON; the command adds what was rejected and makes the other two of
it. The page needs jinja2 and matplotlib (the extra `report`); its figures are SVG.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insgenel_jax.kb.build.coverage import SourceRow
from insgenel_jax.text.formats.lines import write_lines
from insgenel_jax.text.formats.rejects import Rejects

FILES = ("report.json", "report.txt", "report.html")
_TEMPLATE = Path(__file__).parents[2] / "assets" / "build_report.html"
_HEADS = (
    "surface forms from",
    "forms",
    "pairs",
    "form known, %",
    "entity among candidates, %",
    "candidates a link",
)


def write_json(
    out: Path,
    counts: Mapping[str, int],
    sources: Sequence[SourceRow],
    ambiguity: Sequence[tuple[str, int]],
) -> None:
    """Write what was made: how much of each thing, and the surface forms by source."""
    record = {
        "counts": dict(counts),
        "sources": [row._asdict() for row in sources],
        "ambiguity": dict(ambiguity),
    }
    _dump(out, record)


def finish(
    out: Path, counts: Mapping[str, int | float], rejects: Rejects, seconds: float
) -> bool:
    """Write all files of the report; whether there is one in HTML.

    counts: more counts, shown before those of the build. Without jinja2 or matplotlib
    no HTML is written.
    """
    record = json.loads((out / FILES[0]).read_text("utf-8"))
    record["counts"] = {**counts, **record["counts"]}
    record["rejected"] = dict(sorted(rejects.by_reason.items()))
    record["noted"] = dict(sorted(rejects.notes.items()))
    record["seconds"] = round(seconds, 1)
    _dump(out, record)
    write_lines(out / FILES[1], make_text(record))
    try:
        page = make_page(record)
    except ImportError:
        (out / FILES[2]).unlink(missing_ok=True)
        return False
    write_lines(out / FILES[2], [page])
    return True


def make_text(record: Mapping[str, Any]) -> list[str]:
    """The lines of the report as plain text."""
    lines: list[str] = []
    for title, rows in _tables(record):
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines += ["", title] if lines else [title]
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            cells += [
                cell.rjust(width)
                for cell, width in zip(row[1:], widths[1:], strict=True)
            ]
            lines.append("  " + "  ".join(cells).rstrip())
    return lines


def make_page(record: Mapping[str, Any]) -> str:
    """The report as one HTML page that loads nothing. Raises ImportError."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text("utf-8"))
    figures = [
        ("Surface forms by number of candidates", draw_ambiguity(record["ambiguity"])),
        ("Coverage and ambiguity, source by source", draw_sources(record["sources"])),
    ]
    page = template.render(
        tables=_tables(record),
        figures=[(title, Markup(svg)) for title, svg in figures],
    )
    return page.encode("utf-8", "replace").decode()


def draw_ambiguity(numbers: Mapping[str, int]) -> str:
    """Bars: how many surface forms have so many candidates."""
    figure, axes = _start()
    names = list(numbers)
    axes.bar(names, [numbers[name] for name in names], color="#2b6cb0")
    if any(numbers.values()):
        axes.set_yscale("log")
    axes.set_xlabel("candidates")
    axes.set_ylabel("surface forms")
    axes.tick_params(axis="x", labelrotation=40)
    return _svg(figure, "ambiguity")


def draw_sources(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of held-back links: the share that is covered, over the candidates of each."""
    figure, axes = _start()
    known = [row for row in rows if row["candidates"] is not None]
    x = [row["candidates"] for row in known]
    y = [100 * row["covered"] for row in known]
    axes.plot(x, y, "o-", color="#c05621", markersize=4)
    for row, left, top in zip(known, x, y, strict=True):
        axes.annotate(row["source"], (left, top), (4, -9), textcoords="offset points")
    axes.set_xlabel("candidates a link, on average")
    axes.set_ylabel("held-back links covered, %")
    axes.margins(0.2)
    return _svg(figure, "sources")


def _tables(record: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """(title, rows) of each table; the first row names the columns."""
    counts = [[name, _number(count)] for name, count in record["counts"].items()]
    counts.append(["seconds", _number(record["seconds"])])
    sources = [list(_HEADS)]
    for row in record["sources"]:
        shares = [row["known"], row["covered"]]
        percents = ["" if share is None else f"{100 * share:.1f}" for share in shares]
        mean = "" if row["candidates"] is None else f"{row['candidates']:.2f}"
        numbers = [_number(row["forms"]), _number(row["pairs"])]
        sources.append([row["source"], *numbers, *percents, mean])
    histogram = [[name, _number(n)] for name, n in record["ambiguity"].items()]
    tables = [
        ("What was made", [["what", "how many"], *counts]),
        (
            "Each source of surface forms with those before it, on held-back links",
            sources,
        ),
        ("Ambiguity", [["candidates", "surface forms"], *histogram]),
    ]
    for title in ("rejected", "noted"):
        if record[title]:
            reasons = [[name, _number(n)] for name, n in record[title].items()]
            tables.append((title.capitalize(), [["reason", "how many"], *reasons]))
    return tables


def _number(number: float) -> str:
    return f"{number:,.1f}" if isinstance(number, float) else f"{number:,}"


def _start() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any, name: str) -> str:
    """The SVG element; `name` makes its ids differ from those of other figures."""
    import matplotlib

    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata=nothing)
    svg = stream.getvalue()
    return re.sub(
        "<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL
    )


def _dump(out: Path, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, indent=1, ensure_ascii=True)
    write_lines(out / FILES[0], text.split("\n"))
