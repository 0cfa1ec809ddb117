"""Text and knowledge base in; candidate mentions and decision spans out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from insgenel_jax.kb.knowledge_base import KnowledgeBase


@dataclasses.dataclass(frozen=True)
class CandidateMention:
    """A span that may be a mention, and the entities allowed for it.

    start, end: characters of the document. entities: int32 [n], highest prior first.
    log_prior, log_retriever: float64 [n], both normalised over the mention's
    candidates (log_retriever is zero without a retriever). optional: whether the
    decoder may pass the span by; a mention given by the caller it may not.
    """

    start: int
    end: int
    entities: np.ndarray
    log_prior: np.ndarray
    log_retriever: np.ndarray
    optional: bool = True


def allow(
    kb: KnowledgeBase,
    form: int,
    start: int,
    end: int,
    retrieved: dict[int, float] | None,
) -> CandidateMention | None:
    """The candidate mention of a match, or None when no entity is allowed for it.

    retrieved: the entities that the retriever found, with their scores; None allows
    all of the dictionary's (INSGENEL).
    """
    entities, counts = kb.candidates(form)
    log_prior = np.log(counts / counts.sum())
    if retrieved is None:
        return CandidateMention(start, end, entities, log_prior, np.zeros(len(counts)))
    kept = [i for i, entity in enumerate(entities.tolist()) if entity in retrieved]
    if not kept:
        return None
    entities = entities[kept]
    scores = np.array([retrieved[entity] for entity in entities.tolist()])
    return CandidateMention(
        start, end, entities, _normalise(log_prior[kept]), _normalise(scores)
    )


def allow_all(start: int, end: int, retrieved: dict[int, float]) -> CandidateMention:
    """A given mention that the dictionary does not know: all that was retrieved."""
    entities = sorted(retrieved, key=lambda entity: (-retrieved[entity], entity))
    count = len(entities)
    return CandidateMention(
        start,
        end,
        np.array(entities, np.int32),
        np.full(count, -np.log(count)),
        _normalise(np.array([retrieved[entity] for entity in entities])),
    )


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
