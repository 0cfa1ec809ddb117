"""Exact search: vectors and queries in; the rows of largest dot product out.

It is the oracle for approximate search, and what small knowledge bases are searched
with.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Real

QUERIES, PAD, VECTORS = 256, 64, 32_768  # queries and vectors multiplied at a time
SPARE = 16  # candidates kept beyond the k best, as rounding may have swapped some


def search_exact(
    vectors: Real[np.ndarray, "E D"], queries: Float[np.ndarray, "N D"], k: int
) -> tuple[Int[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
    """Ids and scores of the k <= E best rows for each query: best first, ties by id.

    A query's answer does not depend on the other queries: the best by the matrix
    products, whose last bits change with a query's place among the others, are scored
    again one by one. Vectors of another type than float32 are cast as they are read.
    """
    ids = np.concatenate(
        [
            _search_group(vectors, queries[first : first + QUERIES], k)
            for first in range(0, len(queries), QUERIES)
        ]
    )
    scores = np.zeros((len(ids), ids.shape[1]), np.float32)
    for row, query in enumerate(queries):
        ids[row].sort()
        best_vectors = vectors[ids[row]].astype(np.float32, copy=False)
        (best_vectors * query).sum(1, out=scores[row])
    # the sort is stable and ids ascend, so a tie goes to the smaller id
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids, best, 1), np.take_along_axis(scores, best, 1)


def _search_group(
    vectors: Real[np.ndarray, "E D"], queries: Float[np.ndarray, "N D"], k: int
) -> Int[np.ndarray, "N K"]:
    """The best k of each query, and SPARE more where there are so many, unsorted."""
    count = len(queries)
    k = min(k + SPARE, len(vectors))
    padded = np.zeros((-(-count // PAD), PAD, queries.shape[1]), np.float32)
    padded.reshape(-1, queries.shape[1])[:count] = queries
    ids = np.zeros((count, 0), np.int64)
    scores = np.zeros((count, 0), np.float32)
    for first in range(0, len(vectors), VECTORS):
        part = vectors[first : first + VECTORS].astype(np.float32, copy=False)
        new = np.concatenate([part @ group.T for group in padded], 1)[:, :count]
        if scores.shape[1] == k:  # full: only what beats the worst can enter
            entering = new > scores[:, -1]
        elif len(new) > k:
            by_query = np.ascontiguousarray(new.T)
            entering = new >= np.partition(by_query, -k, axis=1)[:, -k]
        else:
            entering = np.ones(new.shape, bool)
        new, columns = _squeeze(new, entering)
        scores = np.concatenate([scores, new], 1)
        ids = np.concatenate([ids, first + columns], 1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, best, 1)
        ids = np.take_along_axis(ids, best, 1)
    return ids


def _squeeze(
    new: Float[np.ndarray, "V N"], entering: Bool[np.ndarray, "V N"]
) -> tuple[Float[np.ndarray, "N M"], Int[np.ndarray, "N M"]]:
    """The marked entries of each column as rows: their scores, and where they stood.

    They keep their order; -inf fills the rows up to M, the most of any column.
    """
    at, rows = np.nonzero(entering)
    order = np.argsort(rows, kind="stable")
    at, rows = at[order], rows[order]
    counts = np.bincount(rows, minlength=new.shape[1])
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    size = (new.shape[1], counts.max(initial=0))
    scores = np.full(size, -np.inf, np.float32)
    columns = np.zeros(size, np.int64)
    scores[rows, place] = new[at, rows]
    columns[rows, place] = at
    return scores, columns
