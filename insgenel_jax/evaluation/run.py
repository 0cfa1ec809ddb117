"""Labelled documents and systems in; the scores of every system on every set out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from insgenel_jax.evaluation import calibration, losses, modes, scoring
from insgenel_jax.evaluation.calibration import CurvePoint
from insgenel_jax.evaluation.elevant import ElevantScores
from insgenel_jax.evaluation.linking import Linked, find_rows, keep_links, link_set
from insgenel_jax.evaluation.losses import Lost
from insgenel_jax.evaluation.systems import (
    System,
    Unopened,
)
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document, Mention

RECALL_AT = (1, 2, 5, 10, 20, 50, 100)
CURVE_POINTS = 30  # thresholds at which ELEVANT's counts are made


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The documents of one set as a system has linked them already.

    kept: what is known beyond them of links that an evaluation has kept.
    """

    dataset: str
    system: str
    documents: Sequence[modes.Labelled]
    kept: Linked | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """The scores of one system on one set. What is unknown is None.

    within: scores with the golds outside our knowledge base made NIL. losses: number of
    golds by the stage that lost them. seconds, calls: of the whole set. elevant: the
    counts of that mode; unmapped: links without a Wikidata id.

    For each document: predicted, what was linked; lost, the golds without a match;
    errors, what is wrong with each link of `predicted`, None where it is right. ranks:
    of the golds that the knowledge base holds, among what is retrieved for their
    places; None for one that is not there. link_scores, link_right: of all links to
    entities, those below the threshold too, where all have a score. curve: what is
    reached at some thresholds, by the rules of the mode, the highest threshold first.
    """

    dataset: str
    system: str
    scores: scoring.Scores
    within: scoring.Scores | None = None
    losses: Mapping[str, int] | None = None
    seconds: float | None = None
    calls: int | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    decoder: str | None = None
    threshold: float = 0.0
    elevant: ElevantScores | None = None
    unmapped: int = 0
    predicted: Sequence[Document] = ()
    lost: Sequence[Sequence[Lost]] = ()
    errors: Sequence[Sequence[str | None]] = ()
    ranks: Sequence[int | None] | None = None
    link_scores: Float[np.ndarray, " N"] | None = None
    link_right: Bool[np.ndarray, " N"] | None = None
    curve: Sequence[CurvePoint] = ()


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The difference in micro F1 of two systems on one set."""

    dataset: str
    system: str
    against: str
    interval: scoring.Interval


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `run` gives. Results stand set by set, in the order of the systems.

    comparisons: on each set, its first system against each of the others. sets: the
    labelled documents, in which golds whose titles are gone are NIL. mode: how they
    were scored.
    """

    results: Sequence[Result]
    comparisons: Sequence[Comparison]
    sets: Mapping[str, Sequence[Document]] = dataclasses.field(default_factory=dict)
    mode: str = "gerbil"


def run(
    sets: Mapping[str, Sequence[modes.Labelled]],
    systems: Iterable[System | Unopened] = (),
    predictions: Sequence[Predictions] = (),
    *,
    mode: str = "gerbil",
    kb: KnowledgeBase | None = None,
    resolve: scoring.Resolve | None = None,
    titles: frozenset[str] | None = None,
    ids: Mapping[str, str] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Link every set with every system, score the links, and compare the systems.

    sets: name -> labelled documents, or articles of ELEVANT. systems: may be a
    generator, which then opens a system when its turn comes. predictions: scored after
    the systems. mode: whose rules, "gerbil" or "elevant". kb: where golds are looked
    up, for the scores within it and for the losses, where a system has none of its own.
    resolve: title -> the title to compare by; by default the redirects of `kb`. titles:
    all titles that exist, folded (see `scoring.score`). ids: title -> Wikidata id.
    out: a folder where the links are kept as they come; what is there already is not
    linked again. progress: told what begins; what it raises ends the run. Raises
    InputError where predictions do not pair up with the labelled documents, or `out`
    has links of other systems or documents.
    """
    progress = progress or (lambda message: None)
    folder = None if out is None else Path(out)
    rules = modes.make_rules(
        mode, resolve or scoring.make_resolve(kb=kb), kb, titles, ids
    )
    results: dict[str, list[Result]] = {name: [] for name in sets}

    for system in systems:
        base = kb if system.kb is None else system.kb
        own = modes.make_rules(mode, system.resolve or rules.resolve, base, titles, ids)
        opened: list[System] = []
        for dataset, golds in sets.items():
            linked = link_set(
                system, opened, dataset, golds, base, own, folder, progress
            )
            results[dataset].append(
                _score(dataset, system.name, golds, linked, base, own)
            )
    for given in predictions:
        progress(f"{given.system} on {given.dataset}")
        golds = sets[given.dataset]
        linked = given.kept or Linked(given.documents, given.documents)
        results[given.dataset].append(
            _score(given.dataset, given.system, golds, linked, kb, rules)
        )
    return Evaluation(
        [result for of_set in results.values() for result in of_set],
        _compare(results.values()),
        {
            name: _existing(modes.gold_documents(golds, rules), rules)
            for name, golds in sets.items()
        },
        mode,
    )


def recall_at(ranks: Sequence[int | None], k: int) -> float:
    """The share of the golds that are among the first k."""
    return sum(r is not None and r <= k for r in ranks) / max(len(ranks), 1)


def _compare(results: Iterable[Sequence[Result]]) -> list[Comparison]:
    """The first system of each set against each of the others."""
    return [
        Comparison(
            first.dataset,
            first.system,
            other.system,
            scoring.compare(first.scores, other.scores),
        )
        for first, *others in filter(None, results)
        for other in others
    ]


def _score(
    dataset: str,
    system: str,
    golds: Sequence[modes.Labelled],
    linked: Linked,
    kb: KnowledgeBase | None,
    rules: modes.Rules,
) -> Result:
    """Score what a system gave for a set."""

    def is_known(mention: Mention) -> bool:
        found = None
        if kb is not None:
            found = losses.find_entity(mention, kb, rules.resolve)
        return found is not None

    same = scoring.same_entity(rules.resolve)
    documents = _existing(modes.gold_documents(golds, rules), rules)
    predicted = _existing(modes.linked_documents(linked.documents, rules), rules)
    predicted = [p for _, p in scoring.pair_documents(documents, predicted)]
    scores, elevant = modes.score(golds, linked.documents, rules)
    within = None
    if kb is not None:
        within, _ = modes.score(golds, linked.documents, rules, is_known)
    candidates = None  # they are rows of one knowledge base
    if kb is not None and linked.kb == kb.identity:
        candidates = linked.candidates
    lost = losses.find_losses(documents, predicted, kb, rules.resolve, candidates)
    everything = _existing(modes.linked_documents(linked.everything, rules), rules)
    link_scores, link_right = _judge(documents, everything, same)
    ranks, rows = linked.ranks, modes.gold_documents(golds, rules)
    if linked.golds and linked.golds != find_rows(rows, kb, rules):
        ranks = None  # they are of other entities
    return Result(
        dataset,
        system,
        scores,
        within,
        None if kb is None else losses.sum_stages(lost),
        linked.seconds,
        linked.calls,
        linked.settings,
        linked.decoder,
        linked.threshold,
        elevant,
        modes.count_unmapped(linked.documents, rules) if elevant else 0,
        predicted,
        lost,
        [
            losses.name_errors(gold, own, same)
            for gold, own in zip(documents, predicted, strict=True)
        ],
        None if ranks is None else [r for own in ranks for r in own],
        link_scores,
        link_right,
        _draw_curve(golds, linked, rules, scores.golds, link_scores, link_right),
    )


def _draw_curve(
    labelled: Sequence[modes.Labelled],
    linked: Linked,
    rules: modes.Rules,
    golds: int,
    scores: Float[np.ndarray, " N"] | None,
    right: Bool[np.ndarray, " N"] | None,
) -> list[CurvePoint]:
    """Precision and recall over the threshold.

    Whether a link is right does not say by itself what it counts for ELEVANT: there the
    documents are scored at each of some thresholds.
    """
    if scores is None or right is None:
        return []
    if rules.mode == "gerbil":
        return calibration.curve(scores, right, golds)
    everything = modes.linked_documents(linked.everything, rules)
    shares = np.linspace(1, 0, CURVE_POINTS)
    levels = np.quantile(scores, shares, method="nearest").tolist()
    points = []
    for level in dict.fromkeys(sorted([*levels, linked.threshold], reverse=True)):
        reached, _ = modes.score(labelled, keep_links(everything, level), rules)
        points.append(CurvePoint(level, *reached.micro))
    return points


def _existing(documents: Sequence[Document], rules: modes.Rules) -> Sequence[Document]:
    """The documents with the mentions whose titles are gone made NIL."""
    titles = rules.titles
    if titles is None:
        return documents
    return scoring.make_nil(documents, lambda m: scoring.is_gone(m, titles))


def _judge(
    golds: Sequence[Document], linked: Sequence[Document], same: scoring.Same
) -> tuple[Float[np.ndarray, " N"] | None, Bool[np.ndarray, " N"] | None]:
    """The score of each link to an entity and whether it is right; None without."""
    pairs = list(scoring.pair_documents(golds, linked))
    links = [[m for m in own.mentions if m.entity is not None] for _, own in pairs]
    scores = [m.score for own in links for m in own]
    if not scores or None in scores:
        return None, None
    right = calibration.judge([gold for gold, _ in pairs], links, same)
    return np.array(scores, np.float64), np.concatenate(right)
