"""Scores of links in; how far they are the probability that a link is right out.

A link is right where `scoring` counts it as a true positive (strong match).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from insgenel_jax.evaluation.scoring import Same, match
from insgenel_jax.linker.calibrator import fit
from insgenel_jax.text.document import Document, Mention

BINS = 10
FOLDS = 5


class Bin(NamedTuple):
    """The links with scores in [low, high): how many, their mean score, share right."""

    low: float
    high: float
    links: int
    score: float
    right: float


class Quality(NamedTuple):
    """How good scores are.

    error: the expected calibration error, which is the mean distance of score and share
    of right links over `BINS` bins of equal width, weighted by links; 0 is best. auroc:
    the chance that a right link has a higher score than a wrong one (half of it for
    equal scores); nan where all links are right, or all wrong.
    """

    links: int
    right: float
    error: float
    auroc: float


class Kept(NamedTuple):
    """The links with a score of at least `threshold`: share of all, and of them right.

    precision is nan where no link is left.
    """

    threshold: float
    share: float
    precision: float


class CurvePoint(NamedTuple):
    """What the links with a score of at least `threshold` reach."""

    threshold: float
    precision: float
    recall: float
    f1: float


def curve(
    scores: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], golds: int
) -> list[CurvePoint]:
    """Precision, recall and F1 at each threshold that changes them, the highest first.

    golds: how many links would be right with full recall.
    """
    order = np.argsort(-scores, kind="stable")
    scores, tp = scores[order], np.cumsum(right[order])
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]
    at = np.flatnonzero(last)  # links of one score come together
    return [
        CurvePoint(float(scores[i]), float(tp[i] / (i + 1)), float(tp[i] / golds), f1)
        for i, f1 in zip(
            at.tolist(), (2 * tp[at] / (at + 1 + golds)).tolist(), strict=True
        )
        if golds
    ]


def judge(
    golds: Sequence[Document], links: Sequence[Sequence[Mention]], same: Same
) -> list[Bool[np.ndarray, " _"]]:
    """Which links of each document are right. Golds that are NIL make none right."""
    judged = []
    for gold, predicted in zip(golds, links, strict=True):
        in_kb = [m for m in gold.mentions if m.entity is not None]
        right = np.zeros(len(predicted), bool)
        right[sorted(match(in_kb, predicted, same))] = True
        judged.append(right)
    return judged


def cross_fit(
    texts: Sequence[str],
    numbers: Sequence[Float[np.ndarray, "_ F"]],
    right: Sequence[Bool[np.ndarray, " _"]],
    counts: Sequence[Float[np.ndarray, " _"]],
    folds: int = FOLDS,
) -> list[Float[np.ndarray, " _"]]:
    """The scores of each document's links, by a calibrator that has not seen them.

    numbers: what `linker.features.describe` gives for each document. counts: how many
    links each one counts as (`calibrator.fit`). Documents are spread over the folds by
    a hash of their text, so equal texts share a fold.
    """
    hashes = [hash_text(text) for text in texts]
    places = {name: i % folds for i, name in enumerate(sorted(set(hashes)))}
    fold = np.array([places[name] for name in hashes])
    scores = [np.zeros(len(own)) for own in right]
    for held_out in sorted(set(fold.tolist())):
        seen = np.flatnonzero(fold != held_out)
        known = (
            np.concatenate([own[i] for i in seen] or [own[0][:0]])
            for own in (numbers, right, counts)
        )
        fitted, judged, counted = known
        calibrator = fit(fitted, judged, counts=counted)
        for i in np.flatnonzero(fold == held_out):
            scores[i] = calibrator(numbers[i])
    return scores


def hash_text(text: str) -> str:
    """A short hash of a document's text, by which it is known again."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def measure(scores: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> Quality:
    """The quality of the scores of N links."""
    count = len(scores)
    error = sum(abs(row.score - row.right) * row.links for row in bins(scores, right))
    share = float(right.mean()) if count else math.nan
    return Quality(count, share, error / max(count, 1), auroc(scores, right))


def bins(scores: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> list[Bin]:
    """The bins of equal width that hold links; the last one holds the score 1 too."""
    number = np.clip((scores * BINS).astype(int), 0, BINS - 1)
    table = []
    for i in np.unique(number).tolist():
        inside = number == i
        score, share = float(scores[inside].mean()), float(right[inside].mean())
        table.append(Bin(i / BINS, (i + 1) / BINS, int(inside.sum()), score, share))
    return table


def auroc(scores: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> float:
    """See `Quality`."""
    positives = int(right.sum())
    negatives = len(right) - positives
    if not positives or not negatives:
        return math.nan
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    # the rank of each score, from 1; equal scores share the mean of their ranks
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    above = ranks[right].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def keep(
    scores: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], threshold: float
) -> Kept:
    """What a threshold leaves of N links."""
    kept = scores >= threshold
    count = int(kept.sum())
    precision = float(right[kept].mean()) if count else math.nan
    return Kept(threshold, count / max(len(scores), 1), precision)


def draw(
    path: str | os.PathLike,
    scores: Mapping[str, Float[np.ndarray, " N"]],
    right: Bool[np.ndarray, " N"],
) -> None:
    """Write a reliability diagram as PNG: share of right links by score, and counts.

    scores: several scores of the same links, by name. Raises ImportError where
    matplotlib is missing.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 6), dpi=150, layout="constrained")
    shares, counts = figure.subplots(2, height_ratios=(3, 1), sharex=True)
    shares.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for name, own in scores.items():
        rows = bins(own, right)
        error = 100 * measure(own, right).error
        label = f"{name}: error {error:.1f} %"
        shares.plot([r.score for r in rows], [r.right for r in rows], "o-", label=label)
        middles = [(r.low + r.high) / 2 for r in rows]
        counts.bar(middles, [r.links for r in rows], 0.9 / BINS, alpha=0.5)
    shares.set(ylabel="share of right links", xlim=(0, 1), ylim=(0, 1))
    shares.legend()
    counts.set(xlabel="score", ylabel="links")
    figure.savefig(path, format="png")
