"""A linker, or the baseline, in; what an evaluation links documents with out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import insgenel_jax
from insgenel_jax.evaluation import losses, scoring, tuning
from insgenel_jax.evaluation.baseline import PriorLinker
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.document import Document

PRIOR = "prior"
MOST_RETRIEVED = 100  # entities of a window among which golds are looked for

Wanted = tuple[int, int, int]  # characters [start, end), and an entity
Ranks = list[list[int | None]]


@dataclasses.dataclass(frozen=True)
class System:
    """Something that links documents.

    link: documents without mentions in, the same documents with its mentions out; where
    it is `given` the gold mentions, their spans come in, without entities.
    candidates: for each document, the entities it may choose from, by span. calls: the
    number of generator calls it has made so far. settings: what it runs with, for the
    record. threshold: links with a lower score are no results; those that `link` gives
    all the same say what a lower threshold would bring. ranks: for each document, the
    ranks of entities among those that are retrieved for their places. kb: the knowledge
    base that its entities are of. resolve: see `run`. identity: a hash of all that its
    links depend on.
    """

    name: str
    link: Callable[[Sequence[Document]], Sequence[Document]]
    candidates: Callable[[Sequence[Document]], Sequence[losses.Candidates]] | None = (
        None
    )
    calls: Callable[[], int] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    decoder: str | None = None
    threshold: float = 0.0
    ranks: Callable[[Sequence[Document], Sequence[Sequence[Wanted]]], Ranks] | None = (
        None
    )
    kb: KnowledgeBase | None = None
    resolve: scoring.Resolve | None = None
    identity: str = ""
    given: bool = False


@dataclasses.dataclass(frozen=True)
class Unopened:
    """A system that is opened once there is something to link. See `System`."""

    name: str
    open: Callable[[], System]
    kb: KnowledgeBase | None
    resolve: scoring.Resolve | None
    identity: str


def linker_system(
    linker: insgenel_jax.Linker,
    name: str | None = None,
    *,
    resolve: scoring.Resolve | None = None,
    identity: str = "",
    given: bool = False,
) -> System:
    """A linker as a system; without a name it is called as the linker's system.

    identity: of the directory that it was opened from, which only the caller knows.
    given: it links the gold mentions, whose entities alone are then to be found.
    """
    settings, everything = linker.settings, linker
    if settings.threshold > 0:  # so that scores below it are known too
        everything = linker.with_settings(threshold=0.0)

    def list_candidates(documents: Sequence[Document]) -> list[losses.Candidates]:
        return [
            {(m.start, m.end): frozenset(m.entities.tolist()) for m in mentions}
            for mentions in linker.candidates(documents, given=given)
        ]

    def link_given(documents: Sequence[Document]) -> list[Document]:
        return list(everything.stream(documents, max(len(documents), 1), given=True))

    def rank(
        documents: Sequence[Document], wanted: Sequence[Sequence[Wanted]]
    ) -> Ranks:
        from insgenel_jax.linker.ranks import rank_entities  # it loads JAX

        return rank_entities(linker, documents, wanted, MOST_RETRIEVED)

    stored = dataclasses.asdict(settings)
    return System(
        name or settings.system,
        link_given if given else everything,
        list_candidates,
        lambda: everything.stats["calls"],
        stored,
        settings.decoder_name,
        settings.threshold,
        rank if linker.retriever is not None else None,
        linker.kb,
        resolve,
        identify(identity, {**stored, "given": given}),
        given,
    )


def identify(parts: str, settings: Mapping[str, Any]) -> str:
    """The identity of a system from that of its parts and its settings.

    Another version of the package may link differently.
    """
    text = json.dumps([insgenel_jax.__version__, parts, dict(settings)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
    return as_prior_system(linker, tuned, resolve)


def as_prior_system(
    linker: PriorLinker, tuned: tuning.Tuned, resolve: scoring.Resolve
) -> System:
    """The tuned baseline as a system."""
    settings = tuned.settings
    everything = dataclasses.replace(linker, threshold=0.0)
    calibrator = linker.calibrator and linker.calibrator.to_json()
    parts = json.dumps([linker.kb.identity, calibrator])
    return System(
        PRIOR,
        everything,
        settings=settings,
        threshold=linker.threshold,
        kb=linker.kb,
        resolve=resolve,
        identity=identify(parts, settings),
    )
