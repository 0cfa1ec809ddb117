"""What may be a mention: candidate mentions, and decision spans merged from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class CandidateMention:
    """A span that may become a mention, and the n entities allowed for it.

    start, end: characters of the document. entities: highest prior first. log_prior,
    log_retriever: ln p(entity | surface form) and the log-softmax of the retriever's
    scores, both normalised over the mention's candidates (log_retriever is zero without
    a retriever). optional: whether the decoder may leave the span unlinked; a mention
    that the caller gives it may not. link_probability: how often the surface form is
    linked where it occurs, 0 to 1. retriever_scores: inner products, each the best over
    the windows that count for the mention; None without a retriever. any_title: whether
    every entity of the knowledge base is allowed; then n is 0.
    linked, seen: how many documents link the surface form, and how many have it; 0 and
    0 where that is not known, as for a given mention that is no surface form.
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
    linked: int = 0
    seen: int = 0

    @property
    def link_log_odds(self) -> float:
        """logit((linked + 1/2) / (seen + 1)): how much link counts speak for a link.

        In natural-log units; 0 where no counts are known.
        """
        return math.log((self.linked + 0.5) / (self.seen - self.linked + 0.5))


def allow_any_title(start: int, end: int) -> CandidateMention:
    """A given mention for which every entity of the knowledge base is allowed."""
    none = np.zeros(0)
    entities = np.zeros(0, np.int32)
    return CandidateMention(start, end, entities, none, none, any_title=True)


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
