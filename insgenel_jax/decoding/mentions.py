"""Matches in a text in; candidate mentions and decision spans out."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float, Int

from insgenel_jax.kb.entity_scores import EntityScores
from insgenel_jax.kb.knowledge_base import KnowledgeBase


@dataclasses.dataclass(frozen=True)
class CandidateMention:
    """A span that may become a mention, and the n entities allowed for it.

    start, end: characters of the document. entities: highest prior first. log_prior,
    log_retriever: ln p(entity | surface form) and the log-softmax of the retriever's
    scores, both normalised over the mention's candidates (log_retriever is zero without
    a retriever). optional: whether the decoder may leave the span unlinked; a mention
    that the caller gives it may not. link_probability: how often the surface form is
    linked where it occurs, 0 to 1. retriever_scores: inner products as retrieved, or
    None. any_title: whether every entity of the knowledge base is allowed; then n is 0.
    """

    start: int
    end: int
    entities: Int[np.ndarray, " n"]  # int32
    log_prior: Float[np.ndarray, " n"]  # float64
    log_retriever: Float[np.ndarray, " n"]  # float64
    optional: bool = True
    link_probability: float = 1.0
    retriever_scores: Float[np.ndarray, " n"] | None = None  # float32
    any_title: bool = False


def allow(
    kb: KnowledgeBase, form: int, start: int, end: int, retrieved: EntityScores | None
) -> CandidateMention | None:
    """The candidate mention of a match, or None when no entity is allowed for it.

    form: the number of its surface form. retrieved: the retriever's entities, which
    limit those of the dictionary (INSGENEL-R); None allows all of them (INSGENEL).
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
        entities, log_prior = entities[kept], _log_softmax(log_prior[kept])
        scores = retrieved.scores[at[kept]]
        log_retriever = _log_softmax(scores.astype(np.float64))
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
    """A given mention whose surface form is unknown: every retrieved entity is allowed.

    The prior is uniform; the entities come by their score, the highest first.
    """
    order = np.lexsort((retrieved.entities, -retrieved.scores))
    count, scores = len(order), retrieved.scores[order]
    return CandidateMention(
        start,
        end,
        retrieved.entities[order],
        np.full(count, -np.log(count)),
        _log_softmax(scores.astype(np.float64)),
        retriever_scores=scores,
    )


def allow_any_title(start: int, end: int) -> CandidateMention:
    """A given mention for which every entity of the knowledge base is allowed."""
    none = np.zeros(0)
    entities = np.zeros(0, np.int32)
    return CandidateMention(start, end, entities, none, none, any_title=True)


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
        log_retriever, scores = _log_softmax(log_retriever), scores[kept]
    return dataclasses.replace(
        candidate,
        entities=candidate.entities[kept],
        log_prior=_log_softmax(candidate.log_prior[kept]),
        log_retriever=log_retriever,
        retriever_scores=scores,
    )


def merge_spans(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge overlapping spans into decision spans (*paper*, algorithm 1).

    Spans are half-open: [0, 2) and [2, 3) do not overlap.
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _log_softmax(scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    shifted = scores - scores.max()
    return shifted - np.log(np.exp(shifted).sum())
