"""Texts in; their candidate mentions out: what may be a mention, and of which entities.

The dictionary (or the caller) says which spans may be mentions. For INSGENEL-R the
retriever then restricts the entities of each to those that it found in its scope.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from insgenel_jax.decoding.mentions import CandidateMention, allow_any_title
from insgenel_jax.kb.entity_scores import EntityScores
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.kb.occurrences import find_occurrences, is_stop_word, passes
from insgenel_jax.linker.settings import Settings
from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.retrieval.scope import Retrieved, retrieve
from insgenel_jax.text.document import WORD, Mention

Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class DocumentMentions:
    """The candidate mentions of one document, in order.

    candidates: each with every entity that some chunk of the document may allow for it.
    retrieved: what the document's windows retrieve; None allows all entities
    (INSGENEL). scope: see linker.settings. any_title: whether a given mention may take
    any title of the knowledge base where none of its entities is allowed.
    """

    candidates: list[CandidateMention]
    retrieved: Retrieved | None = None
    scope: str = "chunk"
    any_title: bool = False

    def allowed_in(
        self, chunk: Span, candidates: Sequence[CandidateMention]
    ) -> list[CandidateMention]:
        """The `candidates` that have an allowed entity in a chunk, restricted to these.

        Their scores of the retriever are those of the chunk's scope.
        """
        if self.retrieved is None:
            return list(candidates)
        place, scores, allowed = None, None, []
        for candidate in candidates:
            span = (candidate.start, candidate.end)
            wanted = {"window": span, "chunk": chunk}.get(self.scope, EVERYWHERE)
            if place != wanted:
                place, scores = wanted, self.retrieved.touching(*wanted)
            restricted = restrict(candidate, scores)
            if restricted is None and self.any_title:
                restricted = dataclasses.replace(allow_any_title(*span), optional=False)
            if restricted is not None:
                allowed.append(restricted)
        return allowed


EVERYWHERE = (0, np.iinfo(np.int64).max)  # characters of a whole document


def find_mentions(
    kb: KnowledgeBase,
    retriever: Retriever | None,
    index: Index | None,
    texts: Sequence[str],
    given: Sequence[Sequence[Span]] | None,
    settings: Settings,
) -> list[DocumentMentions]:
    """The candidate mentions of each text.

    given: spans of each text that stand in place of the dictionary's matches.
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
        retrieved = retrieve(retriever, index, searched, top_k=settings.top_k)
    any_title = given is not None and settings.titles == "all"
    return [
        DocumentMentions(
            find_candidates(kb, found, windows, given is None, any_title),
            windows,
            settings.scope,
            any_title,
        )
        for found, windows in zip(spans, retrieved, strict=True)
    ]


def match_dictionary(
    kb: KnowledgeBase, text: str, settings: Settings
) -> list[tuple[int, int, int]]:
    """(start, end, surface form) of the dictionary's matches that pass the filters."""
    found = find_occurrences(kb, text)
    keep = passes(found, settings.case, settings.min_link_probability)
    columns = (column[keep].tolist() for column in found[:3])
    return list(zip(*columns, strict=True))


def find_candidates(
    kb: KnowledgeBase,
    spans: Sequence[tuple[int, int, int | None]],
    retrieved: Retrieved | None,
    optional: bool,
    any_title_allowed: bool,
) -> list[CandidateMention]:
    """A candidate mention for each span (start, end, surface form) that has an entity.

    A span whose form is None is unknown to the dictionary: all that its document
    retrieves is allowed for it.
    """
    everywhere = None if retrieved is None else retrieved.touching(*EVERYWHERE)
    forms = [form for _, _, form in spans if form is not None]
    columns = (kb.link_probability(forms), *kb.document_counts(forms))
    counts = zip(*(column.tolist() for column in columns), strict=True)
    candidates = []
    for start, end, form in spans:
        if form is not None:
            candidate = from_dictionary(kb, form, start, end, *next(counts))
        elif everywhere is not None and len(everywhere.entities):
            candidate = equally_likely(everywhere.entities, start, end)
        else:
            candidate = None
        if candidate is not None and everywhere is not None:
            candidate = restrict(candidate, everywhere)
        if candidate is None and any_title_allowed:
            candidate = allow_any_title(start, end)
        if candidate is not None:
            if not optional:
                candidate = dataclasses.replace(candidate, optional=False)
            candidates.append(candidate)
    return candidates


def from_dictionary(
    kb: KnowledgeBase,
    form: int,
    start: int,
    end: int,
    link_probability: float,
    linked: int,
    seen: int,
) -> CandidateMention:
    """A span with all entities of its surface form.

    link_probability, linked, seen: of the form, see CandidateMention.
    """
    entities, counts = kb.candidates(form)
    return CandidateMention(
        start,
        end,
        entities,
        np.log(counts / counts.sum()),
        np.zeros(len(counts)),
        link_probability=link_probability,
        linked=linked,
        seen=seen,
    )


def equally_likely(entities: np.ndarray, start: int, end: int) -> CandidateMention:
    """A span with entities that no link count speaks for."""
    count = len(entities)
    log_prior = np.full(count, -np.log(count))
    return CandidateMention(start, end, entities, log_prior, np.zeros(count))


def restrict(
    candidate: CandidateMention, retrieved: EntityScores
) -> CandidateMention | None:
    """A candidate mention with its retrieved entities alone; None where it has none.

    Order: by prior, then by the retriever's score.
    """
    entities = candidate.entities
    if not len(retrieved.entities):
        return None
    at = np.searchsorted(retrieved.entities, entities)
    at = np.minimum(at, len(retrieved.entities) - 1)
    kept = np.flatnonzero(retrieved.entities[at] == entities)
    if not len(kept):
        return None
    scores = retrieved.scores[at[kept]]
    order = np.lexsort((entities[kept], -scores, -candidate.log_prior[kept]))
    kept, scores = kept[order], scores[order]
    return dataclasses.replace(
        candidate,
        entities=entities[kept],
        log_prior=_normalise(candidate.log_prior[kept]),
        log_retriever=_normalise(scores.astype(np.float64)),
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
    taken: Iterable[Span],
) -> list[CandidateMention]:
    """Candidate mentions made from parts of the names that were linked in a text.

    A part of a name is a word of a linked mention of several words that begins with a
    capital, is neither an initial nor a stop word, and belongs to the names of one
    linked entity alone. Each later place of that word is a candidate mention of that
    entity, unless it overlaps a span that is `taken`.
    """
    first: dict[str, int] = {}
    titles: dict[str, set[str]] = {}
    for mention in sorted(linked, key=lambda m: m.start):
        words = list(WORD.finditer(text, mention.start, mention.end))
        for word in words if len(words) > 1 and mention.entity else ():
            if word[0][0].isupper() and len(word[0]) > 1 and not is_stop_word(word[0]):
                first.setdefault(word[0], mention.end)
                titles.setdefault(word[0], set()).add(mention.entity)
    spans, parts, one = list(taken), [], np.zeros(1)
    for word in WORD.finditer(text) if first else ():
        start, end = word.span()
        named = titles.get(word[0], ())
        if len(named) != 1 or start < first[word[0]]:
            continue
        if not any(s < end and start < e for s, e in spans):
            entity = np.array([kb.find(next(iter(named)))], np.int32)
            parts.append(CandidateMention(start, end, entity, one, one))
    return parts
