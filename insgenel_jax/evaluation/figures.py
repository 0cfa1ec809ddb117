"""Scores of links in; small SVG figures for an HTML page out.

The figures hold no text but numbers and the labels of axes, and their colours are
variables of the page's style sheet: --ink, --faint, and --s0, --s1, ... for the curves.
Raises ImportError where matplotlib is missing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from insgenel_jax.evaluation import calibration

COLOURS = 8  # curves with a colour of their own
# Colours that stand for a variable until the SVG is written.
_INK, _FAINT = "#010101", "#020202"
_SERIES = tuple(f"#0301{number:02x}" for number in range(COLOURS))
_VARIABLES = {_INK: "var(--ink)", _FAINT: "var(--faint)"}
_VARIABLES |= {colour: f"var(--s{i})" for i, colour in enumerate(_SERIES)}

Links = tuple[int, Float[np.ndarray, " _"], Bool[np.ndarray, " _"]]


def draw_precision_recall(
    curves: Sequence[tuple[int, Sequence[calibration.CurvePoint]]],
    thresholds: Sequence[float],
) -> str:
    """Precision over recall as the threshold falls; a dot where it stands.

    curves: for each system the number of its colour, and its points. thresholds: of
    each system.
    """
    figure, axes = _start("recall", "precision")
    for (colour, points), threshold in zip(curves, thresholds, strict=True):
        x, y = [p.recall for p in points], [p.precision for p in points]
        drawn = _SERIES[colour % COLOURS]
        axes.plot(x, y, color=drawn, linewidth=1.6)
        at = [p for p in points if p.threshold >= threshold]
        if at:
            axes.plot(at[-1].recall, at[-1].precision, "o", color=drawn, markersize=5)
    return _finish(figure, "pr")


def draw_reliability(curves: Sequence[Links]) -> str:
    """The share of right links over their score; the diagonal is perfect."""
    figure, axes = _start("score", "share right")
    axes.plot([0, 1], [0, 1], color=_INK, alpha=0.5, linewidth=1, linestyle=(0, (2, 3)))
    for colour, scores, right in curves:
        rows = calibration.bins(np.clip(scores, 0, 1), right)
        x, y = [row.score for row in rows], [row.right for row in rows]
        most = max(row.links for row in rows)
        sizes = [8 + 52 * row.links / most for row in rows]
        drawn = _SERIES[colour % COLOURS]
        axes.plot(x, y, color=drawn, linewidth=1.2)
        axes.scatter(x, y, s=sizes, color=drawn, linewidths=0)
    return _finish(figure, "reliability")


def draw_recall(curves: Sequence[tuple[int, Sequence[tuple[int, float]]]]) -> str:
    """Recall over k, on a scale of logarithms. curves: colour, then k and recall."""
    figure, axes = _start("k entities retrieved", "recall")
    axes.set_xscale("log")
    ticks: set[int] = set()
    for colour, points in curves:
        x, y = [k for k, _ in points], [share for _, share in points]
        axes.plot(x, y, "o-", color=_SERIES[colour % COLOURS], markersize=4)
        ticks |= set(x)
    axes.set_xlim(0.9, 1.1 * max(ticks, default=100))
    axes.set_xticks(sorted(ticks), [str(k) for k in sorted(ticks)])
    axes.minorticks_off()
    return _finish(figure, "recall")


def _start(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4, 3.1), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.tick_params(colors=_INK, length=3)
    axes.grid(color=_FAINT, linewidth=0.5, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    for part in (figure.patch, axes.patch):
        part.set_visible(False)
    return figure, axes


def _finish(figure: Figure, name: str) -> str:
    """The SVG element. name: what its ids begin with, so that those of two differ."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata=nothing)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
