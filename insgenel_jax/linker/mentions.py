"""Texts in; their candidate mentions out: what may be a mention, and of which entities.

The dictionary (or the caller) says which spans may be mentions. For INSGENEL-R the
retriever then restricts the entities of each to those that it found in its scope, or
ranks them (the setting `retrieval`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float32

from insgenel_jax.decoding.mentions import CandidateMention, allow_any_title
from insgenel_jax.kb import occurrences
from insgenel_jax.kb.entity_scores import EntityScores
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.occurrences import find_occurrences, passes
from insgenel_jax.linker.settings import Settings
from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.retrieval.scope import Retrieved, retrieve
from insgenel_jax.text.document import Mention

Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class DocumentMentions:
    """The candidate mentions of one document, in order.

    candidates: each with every entity that some chunk of the document may allow for it.
    retrieved: what the document's windows retrieve; None allows all entities
    (INSGENEL). index: of all entities, which scores the candidates of "rank". scope,
    retrieval, max_candidates: see linker.settings. any_title: whether a given mention
    may take any title of the knowledge base where none of its entities is allowed.
    count: of the spans that were found or given, with those that have no candidates.
    """

    candidates: list[CandidateMention]
    retrieved: Retrieved | None = None
    index: Index | None = None
    scope: str = "chunk"
    retrieval: str = "limit"
    max_candidates: int | None = None
    any_title: bool = False
    count: int = 0

    def allowed_in(
        self, chunk: Span, candidates: Sequence[CandidateMention]
    ) -> list[CandidateMention]:
        """The `candidates` that have an allowed entity in a chunk, with only these.

        Their scores of the retriever are those of the chunk's scope.
        """
        if self.retrieved is None:
            return list(candidates)
        if self.retrieval == "rank":
            return self._rank(chunk, candidates)
        place, retrieved, allowed = None, None, []
        for candidate in candidates:
            wanted = self._place(candidate, chunk)
            if place != wanted:
                place, retrieved = wanted, self.retrieved.touching(*wanted)
            limited = limit(candidate, retrieved, self.max_candidates)
            if limited is None and self.any_title:
                limited = allow_any_title(candidate.start, candidate.end)
                limited = dataclasses.replace(limited, optional=False)
            if limited is not None:
                allowed.append(limited)
        return allowed

    def _rank(
        self, chunk: Span, candidates: Sequence[CandidateMention]
    ) -> list[CandidateMention]:
        """The `candidates` in a chunk, weighed by the scores of all their entities."""
        if not candidates:
            return []
        retrieved = self.retrieved.within(
            *(EVERYWHERE if self.scope == "document" else chunk)
        )
        # all that the chunk needs in one matrix product: [windows, entities]
        entities = np.unique(np.concatenate([c.entities for c in candidates]))
        scores = self.index.score(retrieved.vectors, entities)
        place, found, best, ranked = None, None, None, []
        for candidate in candidates:
            wanted = self._place(candidate, chunk)
            if place != wanted:
                place, found = wanted, retrieved.touching(*wanted)
                rows = retrieved.windows(*wanted)
                best = np.fmax.reduce(scores[rows], axis=0, initial=np.nan)
            own = best[np.searchsorted(entities, candidate.entities)]
            ranked.append(rank(candidate, found, own, self.max_candidates))
        return ranked

    def _place(self, candidate: CandidateMention, chunk: Span) -> Span:
        """The characters whose windows count for a candidate mention of a chunk."""
        span = (candidate.start, candidate.end)
        return {"window": span, "chunk": chunk}.get(self.scope, EVERYWHERE)


EVERYWHERE = (0, np.iinfo(np.int64).max)  # characters of a whole document


def find_mentions(
    kb: KnowledgeBase,
    retriever: Retriever | None,
    index: Index | None,
    texts: Sequence[str],
    given: Sequence[Sequence[Span]] | None,
    settings: Settings,
    known: dict[tuple[str, int], Retrieved] | None = None,
) -> list[DocumentMentions]:
    """The candidate mentions of each text.

    given: spans of each text that stand in place of the dictionary's matches. known:
    what texts with a top_k retrieve; what is missing is added. None remembers nothing.
    """
    spans = [
        match_dictionary(kb, text, settings)
        if given is None
        else [(*span, kb.form(text[slice(*span)])) for span in sorted(set(given[i]))]
        for i, text in enumerate(texts)
    ]
    retrieved: list[Retrieved] | list[None] = [None] * len(texts)
    if settings.system == "insgenel-r":
        # where there is nothing to link, nothing is retrieved
        searched = [text if s else "" for text, s in zip(texts, spans, strict=True)]
        top_k, known = settings.top_k, {} if known is None else known
        new = [t for t in dict.fromkeys(searched) if (t, top_k) not in known]
        found = retrieve(retriever, index, new, top_k=top_k)
        known.update(((t, top_k), r) for t, r in zip(new, found, strict=True))
        retrieved = [known[text, top_k] for text in searched]
    any_title = given is not None and settings.titles == "all"
    return [
        DocumentMentions(
            find_candidates(kb, found, windows, given is None, any_title, settings),
            windows,
            index,
            settings.scope,
            settings.retrieval,
            settings.max_candidates,
            any_title,
            len(found),
        )
        for found, windows in zip(spans, retrieved, strict=True)
    ]


def match_dictionary(
    kb: KnowledgeBase, text: str, settings: Settings
) -> list[tuple[int, int, int]]:
    """(start, end, surface form) of the dictionary's matches that pass the filters."""
    found = find_occurrences(kb, text, settings.matches)
    keep = passes(
        found, settings.case, settings.min_link_probability, settings.capitalised_run
    )
    columns = (c[keep].tolist() for c in (found.starts, found.ends, found.forms))
    return list(zip(*columns, strict=True))


def find_candidates(
    kb: KnowledgeBase,
    spans: Sequence[tuple[int, int, int | None]],
    retrieved: Retrieved | None,
    optional: bool,
    any_title_allowed: bool,
    settings: Settings,
) -> list[CandidateMention]:
    """A candidate mention for each span (start, end, surface form) that has an entity.

    A span whose form is None is unknown to the dictionary: all that its document
    retrieves is allowed for it.
    """
    everywhere = None if retrieved is None else retrieved.touching(*EVERYWHERE)
    known: dict[int | None, CandidateMention | None] = {None: None}
    if everywhere is not None and len(everywhere.entities):
        known[None] = limit(equally_likely(everywhere.entities), everywhere, None)
    # a form may have very many entities, and stand in many places
    forms = sorted({form for _, _, form in spans if form is not None})
    columns = (kb.link_probability(forms), *kb.document_counts(forms))
    counts = zip(*(column.tolist() for column in columns), strict=True)
    for form, numbers in zip(forms, counts, strict=True):
        known[form] = from_dictionary(kb, form, *numbers, everywhere, settings)
    candidates = []
    for start, end, form in spans:
        candidate = known[form]
        if candidate is None and any_title_allowed:
            candidate = allow_any_title(start, end)
        if candidate is not None:
            candidates.append(
                dataclasses.replace(candidate, start=start, end=end, optional=optional)
            )
    return candidates


def from_dictionary(
    kb: KnowledgeBase,
    form: int,
    link_probability: float,
    linked: int,
    seen: int,
    retrieved: EntityScores | None,
    settings: Settings,
) -> CandidateMention | None:
    """A candidate mention of a surface form, at no place yet; None without an entity.

    link_probability, linked, seen: of the form, see CandidateMention. retrieved: what
    the document retrieves; None for INSGENEL. A form may have very many entities: those
    that no chunk allows are left out before anything else is done.
    """
    entities, counts = kb.candidates(form)
    most = settings.max_candidates
    if retrieved is None:
        rows = slice(most)
    elif settings.retrieval == "rank":
        rows = first_or(find_rows(entities, retrieved) >= 0, most)
    else:
        rows = find_rows(entities, retrieved) >= 0
    entities, counts = entities[rows], counts[rows]
    if not len(entities):
        return None
    return CandidateMention(
        0,
        0,
        entities,
        np.log(counts / counts.sum()),
        np.zeros(len(counts)),
        link_probability=link_probability,
        linked=linked,
        seen=seen,
    )


def equally_likely(entities: np.ndarray) -> CandidateMention:
    """A candidate mention, at no place yet, of entities for which no count speaks."""
    count = len(entities)
    log_prior = np.full(count, -np.log(count))
    return CandidateMention(0, 0, entities, log_prior, np.zeros(count))


def limit(
    candidate: CandidateMention, retrieved: EntityScores, most: int | None
) -> CandidateMention | None:
    """A candidate mention with its retrieved entities alone; None where it has none.

    Order: by prior, then by the retriever's score. most: how many are kept, at most.
    """
    at = find_rows(candidate.entities, retrieved)
    kept = np.flatnonzero(at >= 0)
    if not len(kept):
        return None
    scores = retrieved.scores[at[kept]]
    prior, entities = candidate.log_prior[kept], candidate.entities[kept]
    order = np.lexsort((entities, -scores, -prior))[:most]
    return _with(candidate, kept[order], scores[order])


def rank(
    candidate: CandidateMention,
    retrieved: EntityScores,
    scores: Float32[np.ndarray, " n"],
    most: int | None,
) -> CandidateMention:
    """A candidate mention whose entities are weighed by the retriever's scores.

    scores: of its n entities, retrieved or not; nan where no window counts for it. Then
    all weigh the same. most: that many entities are kept, the first ones, and beyond
    them those that are retrieved.
    """
    at = find_rows(candidate.entities, retrieved)
    kept = np.flatnonzero(first_or(at >= 0, most))
    return _with(candidate, kept, scores[kept])


def find_rows(entities: np.ndarray, retrieved: EntityScores) -> np.ndarray:
    """The row of each of n entities among the retrieved ones; -1 where it has none."""
    if not len(retrieved.entities):
        return np.full(len(entities), -1)
    at = np.searchsorted(retrieved.entities, entities)
    at = np.minimum(at, len(retrieved.entities) - 1)
    return np.where(retrieved.entities[at] == entities, at, -1)


def first_or(chosen: np.ndarray, most: int | None) -> np.ndarray:
    """Which of n candidates are chosen or among the first `most`; None: all are."""
    return chosen | (np.arange(len(chosen)) < (len(chosen) if most is None else most))


def _with(
    candidate: CandidateMention, rows: np.ndarray, scores: np.ndarray
) -> CandidateMention:
    """A candidate mention with some of its entities, and the retriever's scores."""
    return dataclasses.replace(
        candidate,
        entities=candidate.entities[rows],
        log_prior=_normalise(candidate.log_prior[rows]),
        log_retriever=_normalise(np.nan_to_num(scores.astype(np.float64))),
        retriever_scores=scores,
    )


def leave_out(
    candidate: CandidateMention, entities: Collection[int]
) -> CandidateMention | None:
    """A candidate mention without some entities; None where no other is left."""
    kept = np.array([e not in entities for e in candidate.entities.tolist()])
    if kept.all():
        return candidate
    if not kept.any():
        return None
    log_retriever, scores = candidate.log_retriever[kept], candidate.retriever_scores
    if scores is not None:
        log_retriever, scores = _normalise(log_retriever), scores[kept]
    return dataclasses.replace(
        candidate,
        entities=candidate.entities[kept],
        log_prior=_normalise(candidate.log_prior[kept]),
        log_retriever=log_retriever,
        retriever_scores=scores,
    )


def _normalise(scores: np.ndarray) -> np.ndarray:
    """The log-softmax of float64 scores [n]."""
    shifted = scores - scores.max()
    return shifted - np.log(np.exp(shifted).sum())


def find_name_parts(
    kb: KnowledgeBase,
    text: str,
    linked: Sequence[Mention],
    taken: Sequence[Span],
    settings: Settings,
) -> list[CandidateMention]:
    """Candidate mentions made from parts of the names that were linked in a text.

    taken: the places of the candidate mentions there are, see
    kb.occurrences.find_name_parts.
    """
    names = [(m.start, m.end, kb.find(m.entity)) for m in linked if m.entity]
    parts = occurrences.find_name_parts(
        text, names, taken, settings.name_parts, settings.capitalised_run
    )
    one = np.zeros(1)
    return [
        CandidateMention(start, end, np.array([entity], np.int32), one, one)
        for start, end, entity in parts
    ]
