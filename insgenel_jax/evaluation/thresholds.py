"""Scored links of labelled documents in; a calibrator and a threshold out.

The threshold, and whether links that were passed over count too, are chosen by scores
from calibrators that have not seen the document; the calibrator that is kept has seen
them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from insgenel_jax.evaluation import calibration, scoring
from insgenel_jax.evaluation.search import (
    Point,
    Sets,
    Step,
    make_step,
    score_sets,
    split,
)
from insgenel_jax.linker.calibrator import Calibrator, fit
from insgenel_jax.linker.features import ScoredLink, describe

THRESHOLDS: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(20))


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A calibrator, fitted on all links, and what cross-fitted scores say of it.

    threshold, consider_unlinked: the best ones. best: the point that they reach, with
    scores that have not seen the document. steps: what they gain. scores: name ->
    score of each link that was taken, without a calibrator and cross-fitted. right:
    which of these links are. sets: the set of each of them. names: of all sets.
    """

    calibrator: Calibrator
    threshold: float
    consider_unlinked: bool
    best: Point
    steps: Sequence[Step]
    scores: Mapping[str, Float[np.ndarray, " _"]]
    right: Bool[np.ndarray, " _"]
    sets: Sequence[str]
    names: Sequence[str]


def calibrate(
    sets: Sets,
    links: Sequence[Sequence[ScoredLink]],
    same: scoring.Same | None = None,
    *,
    consider_unlinked: bool,
) -> Calibrated:
    """Fit a calibrator, and choose what means calibrated scores.

    links: of each document, set by set. In the fit each set counts as many links as
    the smallest has: a large set of another kind would drown it, while the F1 that is
    made high counts them alike. consider_unlinked: whether to try that too.
    """
    golds = [document for documents in sets.values() for document in documents]
    mentions = [[link.mention for link in own] for own in links]
    right = calibration.judge(golds, mentions, same or scoring.same_entity())
    texts, counts = [gold.text for gold in golds], count_alike(sets, links)
    numbers = list(map(describe, texts, links))
    scores = calibration.cross_fit(texts, numbers, right, counts)

    def point(unlinked: bool, threshold: float) -> Point:
        linked = [
            dataclasses.replace(
                gold,
                mentions=tuple(
                    link.mention
                    for link, score in zip(of_document, own.tolist(), strict=True)
                    if score >= threshold and (unlinked or link.linked)
                ),
            )
            for gold, of_document, own in zip(golds, links, scores, strict=True)
        ]
        settings = {"consider_unlinked": unlinked, "threshold": threshold}
        return Point(settings, score_sets(sets, split(sets, linked), same))

    best, steps = point(False, 0.0), []
    for unlinked in (False, True)[: 1 + consider_unlinked]:
        points = [point(unlinked, threshold) for threshold in THRESHOLDS]
        better = max([best, *points], key=lambda each: each.f1)
        if better is not best:
            name = "threshold and unlinked" if unlinked else "threshold"
            old, new = (each.settings["threshold"] for each in (best, better))
            steps.append(make_step(name, old, new, best, better))
            best = better
    taken = np.array([link.linked for own in links for link in own], bool)
    plain = [mention.score for own in mentions for mention in own]
    return Calibrated(
        fit(*map(np.concatenate, (numbers, right)), counts=np.concatenate(counts)),
        best.settings["threshold"],
        best.settings["consider_unlinked"],
        best,
        steps,
        {
            "without a calibrator": np.array(plain, np.float64)[taken],
            "calibrated": np.concatenate(scores)[taken],
        },
        np.concatenate(right)[taken],
        _names_of_links(sets, links, taken),
        list(sets),
    )


def _names_of_links(
    sets: Sets, links: Sequence[Sequence[ScoredLink]], taken: Bool[np.ndarray, " N"]
) -> list[str]:
    """The set of each link that was taken. links: of each document, set by set."""
    of_document = [name for name, documents in sets.items() for _ in documents]
    return np.repeat(of_document, list(map(len, links)))[taken].tolist()


def count_alike(
    sets: Sets, links: Sequence[Sequence[ScoredLink]]
) -> list[Float[np.ndarray, " _"]]:
    """How many links each one counts as, so that all sets that have any count alike.

    links: of each document, set by set; so is what is given.
    """
    remaining = iter(map(len, links))
    sizes = [[next(remaining) for _ in documents] for documents in sets.values()]
    least = min(filter(None, map(sum, sizes)), default=0)
    return [
        np.full(size, least / max(sum(of_set), 1))
        for of_set in sizes
        for size in of_set
    ]
