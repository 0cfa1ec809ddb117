"""Labelled documents and systems in; the scores of every system on every set out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import insgenel_jax
from insgenel_jax.evaluation import losses, scoring, tuning
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document, Mention

PRIOR = "prior"


@dataclasses.dataclass(frozen=True)
class System:
    """Something that links documents.

    link: documents without mentions in, the same documents with its mentions out; where
    it is `given` the gold mentions, their spans come in, without entities.
    candidates: for each document, the entities it may choose from, by span. calls: the
    number of generator calls it has made so far. settings: what it runs with, for the
    record.
    """

    name: str
    link: Callable[[Sequence[Document]], Sequence[Document]]
    candidates: Callable[[Sequence[Document]], Sequence[losses.Candidates]] | None = (
        None
    )
    calls: Callable[[], int] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    given: bool = False


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The documents of one set as a system has linked them already."""

    dataset: str
    system: str
    documents: Sequence[Document]


@dataclasses.dataclass(frozen=True)
class Result:
    """The scores of one system on one set. What is unknown is None.

    within: scores with the golds outside our knowledge base made NIL. losses: number of
    golds by the stage that lost them. seconds, calls: of the whole set.
    """

    dataset: str
    system: str
    scores: scoring.Scores
    within: scoring.Scores | None = None
    losses: Mapping[str, int] | None = None
    seconds: float | None = None
    calls: int | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


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

    comparisons: on each set, its first system against each of the others.
    """

    results: Sequence[Result]
    comparisons: Sequence[Comparison]


@dataclasses.dataclass(frozen=True)
class _Linked:
    """What one system gave for one set, and what that took."""

    documents: Sequence[Document]
    candidates: Sequence[losses.Candidates] | None = None
    seconds: float | None = None
    calls: int | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def run(
    sets: Mapping[str, Sequence[Document]],
    systems: Iterable[System] = (),
    predictions: Sequence[Predictions] = (),
    *,
    kb: KnowledgeBase | None = None,
    resolve: scoring.Resolve | None = None,
    titles: frozenset[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Link every set with every system, score the links, and compare the systems.

    sets: name -> labelled documents. systems: may be a generator, which then opens a
    system when its turn comes. predictions: scored after the systems. kb: where golds
    are looked up, for the scores within it and for the losses. resolve: title -> the
    title to compare by; by default the redirects of `kb`. titles: all titles that
    exist, folded (see `scoring.score`). progress: told what begins. Raises InputError
    where predictions do not pair up with the labelled documents.
    """
    resolve = resolve or scoring.make_resolve(kb=kb)
    progress = progress or (lambda message: None)
    results: dict[str, list[Result]] = {name: [] for name in sets}

    for system in systems:
        for dataset, golds in sets.items():
            progress(f"{system.name} on {dataset}: {len(golds)} documents")
            linked = _link(system, golds, want_candidates=kb is not None)
            results[dataset].append(
                _score(dataset, system.name, golds, linked, kb, resolve, titles)
            )
    for given in predictions:
        golds = sets[given.dataset]
        progress(f"{given.system} on {given.dataset}: {len(golds)} documents")
        linked = _Linked(given.documents)
        results[given.dataset].append(
            _score(given.dataset, given.system, golds, linked, kb, resolve, titles)
        )
    return Evaluation(
        [result for of_set in results.values() for result in of_set],
        [
            Comparison(
                first.dataset,
                first.system,
                other.system,
                scoring.compare(first.scores, other.scores),
            )
            for first, *others in filter(None, results.values())
            for other in others
        ],
    )


def linker_system(
    linker: insgenel_jax.Linker, name: str | None = None, *, given: bool = False
) -> System:
    """A linker as a system; its name is that of the linker's system, unless given.

    given: it links the gold mentions, whose entities alone are then to be found.
    """

    def list_candidates(documents: Sequence[Document]) -> list[losses.Candidates]:
        return [
            {(m.start, m.end): frozenset(m.entities.tolist()) for m in mentions}
            for mentions in linker.candidates(documents, given=given)
        ]

    def link_given(documents: Sequence[Document]) -> list[Document]:
        return list(linker.stream(documents, max(len(documents), 1), given=True))

    name = name or linker.settings.system
    return System(
        f"{name}, gold spans" if given else name,
        link_given if given else linker,
        list_candidates,
        lambda: linker.stats["calls"],
        dataclasses.asdict(linker.settings),
        given,
    )


def prior_system(
    kb: KnowledgeBase,
    documents: Sequence[Document] | Mapping[str, Sequence[Document]],
    resolve: scoring.Resolve | None = None,
) -> System:
    """The prior-only baseline as a system, tuned on labelled development documents.

    documents: of one set, or of several by name; see `tuning.tune_prior`.
    """
    sets = documents if isinstance(documents, Mapping) else {"documents": documents}
    resolve = resolve or scoring.make_resolve(kb=kb)
    linker, tuned = tuning.tune_prior(kb, sets, scoring.same_entity(resolve))
    return System(PRIOR, linker, settings=tuned.settings)


def _link(
    system: System, golds: Sequence[Document], *, want_candidates: bool
) -> _Linked:
    """Link the documents without their labels, or with the spans of these alone."""
    bare = [
        dataclasses.replace(
            document,
            mentions=tuple(
                Mention(m.start, m.end, None) for m in document.mentions if system.given
            ),
        )
        for document in golds
    ]
    calls_before = system.calls() if system.calls else 0
    began = time.perf_counter()
    documents = system.link(bare)
    seconds = time.perf_counter() - began
    calls = system.calls() - calls_before if system.calls else None
    candidates = None
    if want_candidates and system.candidates is not None:
        candidates = system.candidates(bare)
    return _Linked(documents, candidates, seconds, calls, system.settings)


def _score(
    dataset: str,
    system: str,
    golds: Sequence[Document],
    linked: _Linked,
    kb: KnowledgeBase | None,
    resolve: scoring.Resolve,
    titles: frozenset[str] | None,
) -> Result:
    """Score what a system gave for a set."""
    same = scoring.same_entity(resolve)
    within = lost = None
    if kb is not None:
        within = scoring.score(
            golds,
            linked.documents,
            same=same,
            titles=titles,
            within=lambda m: losses.find_entity(m, kb, resolve) is not None,
        )
        existing = golds
        if titles is not None:
            existing = scoring.make_nil(golds, lambda m: scoring.is_gone(m, titles))
        lost = losses.count_losses(
            existing, linked.documents, kb, resolve, linked.candidates
        )
    return Result(
        dataset,
        system,
        scoring.score(golds, linked.documents, same=same, titles=titles),
        within,
        lost,
        linked.seconds,
        linked.calls,
        linked.settings,
    )
