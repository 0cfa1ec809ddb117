"""An index of a base, the vectors of added entities, and removed rows, in; one search
over all of them out.

    base/  embeddings/  removed.npy

The base is an index of its own, with ScaNN or without. The added vectors are searched
exactly, and the best of both are kept. Where nothing is added there are no embeddings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from insgenel_jax.kb.overlay import is_among
from insgenel_jax.retrieval.exact import search_exact

BASE, REMOVED = "base", "removed.npy"
GROWTH = 0.1  # of a base, by what is added and removed, from which it is indexed anew


@dataclasses.dataclass(frozen=True)
class Segments:
    """An index and what an overlay changes of it.

    base_entities, base_search, base_score: of the base's `Index`. added: the vectors of
    the entities that follow the base's. removed: the rows, ascending, that no search
    gives.
    """

    base_entities: int
    base_search: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
    base_score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    added: Float32[np.ndarray, "A D"]
    removed: Int32[np.ndarray, " R"]

    @property
    def entities(self) -> int:
        """How many rows there are, with the removed ones."""
        return self.base_entities + len(self.added)

    def search(
        self, queries: Float[np.ndarray, "N D"], k: int
    ) -> tuple[Int[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
        """The k best rows that are not removed, in any order; there are as many."""
        ids, scores = self._search_base(queries, k)
        if len(self.added):
            own, own_scores = search_exact(self.added, queries, min(k, len(self.added)))
            ids = np.concatenate([ids, own + self.base_entities], 1)
            scores = np.concatenate([scores, own_scores], 1)
        scores = np.where(is_among(ids, self.removed), -np.inf, scores)
        best = np.lexsort((ids, -scores))[:, :k]
        return np.take_along_axis(ids, best, 1), np.take_along_axis(scores, best, 1)

    def _search_base(
        self, queries: Float[np.ndarray, "N D"], k: int
    ) -> tuple[Int[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
        """The best rows of the base, the removed ones among them: k others, or all.

        How far a query is searched depends on what it finds alone.
        """
        count = self.base_entities
        wanted = min(k + min(k, len(self.removed)), count)
        ids, scores = self.base_search(queries, wanted)
        left = (~is_among(ids, self.removed)).sum(1)
        short = np.flatnonzero(left < k)
        while len(short) and wanted < count:
            wanted = min(2 * wanted, count)
            more, more_scores = self.base_search(queries[short], wanted)
            width = wanted - ids.shape[1]
            ids = np.pad(ids, ((0, 0), (0, width)))
            scores = np.pad(scores, ((0, 0), (0, width)), constant_values=-np.inf)
            ids[short], scores[short] = more, more_scores
            left = (~is_among(more, self.removed)).sum(1)
            short = short[left < k]
        return ids, scores

    def score(
        self, queries: Float[np.ndarray, "W D"], entities: Int[np.ndarray, " K"]
    ) -> Float32[np.ndarray, "W K"]:
        """The dot products of queries and rows."""
        own = entities >= self.base_entities
        scores = np.empty((len(queries), len(entities)), np.float32)
        scores[:, ~own] = self.base_score(queries, entities[~own])
        added = self.added[entities[own] - self.base_entities]
        scores[:, own] = queries.astype(np.float32) @ added.T
        return scores
