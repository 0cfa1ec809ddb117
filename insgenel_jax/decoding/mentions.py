"""Text and knowledge base in; candidate mentions and decision spans out."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from insgenel_jax.kb.entity_scores import EntityScores
from insgenel_jax.kb.knowledge_base import KnowledgeBase


@dataclasses.dataclass(frozen=True)
class CandidateMention:
    """A span that may be a mention, and the entities allowed for it.

    start, end: characters of the document. entities: int32 [n], highest prior first.
    log_prior, log_retriever: float64 [n], both normalised over the mention's
    candidates (log_retriever is zero without a retriever). optional: whether the
    decoder may pass the span by; a mention given by the caller it may not.
    link_probability: of the surface form. retriever_scores: float32 [n], as retrieved,
    or None. any_title: whether it may be any entity of the knowledge base; then n is 0.
    """

    start: int
    end: int
    entities: np.ndarray
    log_prior: np.ndarray
    log_retriever: np.ndarray
    optional: bool = True
    link_probability: float = 1.0
    retriever_scores: np.ndarray | None = None
    any_title: bool = False


def allow(
    kb: KnowledgeBase, form: int, start: int, end: int, retrieved: EntityScores | None
) -> CandidateMention | None:
    """The candidate mention of a match, or None when no entity is allowed for it.

    retrieved: what the retriever found; None allows all of the dictionary's (INSGENEL).
    """
    entities, counts = kb.candidates(form)
    (linked,) = kb.link_probability([form]).tolist()
    log_prior, log_retriever = np.log(counts / counts.sum()), np.zeros(len(counts))
    scores = None
    if retrieved is not None:
        at = np.searchsorted(retrieved.entities, entities)
        at = np.minimum(at, max(len(retrieved.entities) - 1, 0))
        kept = np.zeros(len(entities), bool)
        if len(retrieved.entities):
            kept = retrieved.entities[at] == entities
        if not kept.any():
            return None
        entities, log_prior = entities[kept], _normalise(log_prior[kept])
        scores = retrieved.scores[at[kept]]
        log_retriever = _normalise(scores.astype(np.float64))
    return CandidateMention(
        start,
        end,
        entities,
        log_prior,
        log_retriever,
        link_probability=linked,
        retriever_scores=scores,
    )


def allow_all(start: int, end: int, retrieved: EntityScores) -> CandidateMention:
    """A given mention that the dictionary does not know: all that was retrieved."""
    order = np.lexsort((retrieved.entities, -retrieved.scores))
    count, scores = len(order), retrieved.scores[order]
    return CandidateMention(
        start,
        end,
        retrieved.entities[order],
        np.full(count, -np.log(count)),
        _normalise(scores.astype(np.float64)),
        retriever_scores=scores,
    )


def leave_out(
    candidate: CandidateMention, entities: Collection[int]
) -> CandidateMention | None:
    """The candidate mention without some entities, or None when none is left."""
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


def allow_any_title(start: int, end: int) -> CandidateMention:
    """A mention that may be any entity of the knowledge base."""
    none = np.zeros(0)
    entities = np.zeros(0, np.int32)
    return CandidateMention(start, end, entities, none, none, any_title=True)


def merge_spans(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge overlapping spans into decision spans (*paper*, algorithm 1)."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _normalise(scores: np.ndarray) -> np.ndarray:
    """log-softmax of float64 scores [n]."""
    shifted = scores - scores.max()
    return shifted - np.log(np.exp(shifted).sum())
