"""Approximate search with ScaNN, for large knowledge bases: build, open and search.

The recall of a new ScaNN index against exact search is measured when it is built, and
the cheapest search that reaches `TARGET` is kept.
"""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from insgenel_jax.retrieval.exact import search_exact

TARGET, TARGET_K = 0.98, 100  # recall that a new index is tuned to, and its k


def has_scann(path: str | os.PathLike) -> bool:
    """Whether ScaNN can be imported; if not, a warning says how `path` is searched."""
    if importlib.util.find_spec("scann") is None:
        warnings.warn(
            f"{path}: ScaNN cannot be imported (it runs on Linux only); the index is "
            "searched exactly",
            stacklevel=3,
        )
        return False
    return True


def build_scann(
    vectors: Float[np.ndarray, "E D"], path: Path, queries: Float[np.ndarray, "N D"]
) -> dict[str, Any]:
    """Train ScaNN, write its files to `path`, and tune the search on `queries`.

    Returns what `load_scann` needs, with the recall that was measured.
    """
    from scann.scann_ops.py import scann_builder, scann_ops_pybind

    entities, dim = vectors.shape
    leaves = round(math.sqrt(entities))
    sample = min(entities, 250_000)
    searcher = (
        scann_ops_pybind.builder(vectors, min(TARGET_K, entities), "dot_product")
        # k-means++ starts (random_init=False) make the files a function of the input,
        # however many threads train
        .tree(
            leaves,
            leaves,
            training_sample_size=sample,
            random_init=False,
            soar_lambda=1.5,
        )
        # at most 256 hash blocks, beyond which ScaNN cannot keep one global top list
        .score_ah(
            max(2, math.ceil(dim / 256)),
            anisotropic_quantization_threshold=0.2,
            training_sample_size=sample,
        )
        # the embeddings are bfloat16 already, so nothing is lost
        .reorder(1000, scann_builder.ReorderType.BFLOAT16)
        .set_n_training_threads(os.cpu_count() or 1)
        .build()
    )
    path.mkdir()
    searcher.serialize(str(path), relative_path=True)
    return {"method": "scann", "leaves": leaves} | _tune(searcher, vectors, queries)


def _tune(searcher, vectors: np.ndarray, queries: np.ndarray) -> dict[str, Any]:
    """The cheapest search of enough recall: first more leaves, then more reordering."""
    entities, leaves = len(vectors), round(math.sqrt(len(vectors)))
    k = min(TARGET_K, entities)
    wanted, _ = search_exact(vectors, queries, k)
    facts: dict[str, Any] = {"leaves": leaves, "reorder": min(10 * k, entities)}
    share = 0.02
    while True:
        facts["leaves_to_search"] = min(math.ceil(share * leaves), leaves)
        ids, _ = _search(searcher, facts, entities, queries, k)
        facts["recall"] = measure_recall(ids, wanted)
        if facts["recall"] >= TARGET:
            break
        if facts["leaves_to_search"] < leaves:
            share *= 1.4
        elif facts["reorder"] < entities:
            facts["reorder"] = min(2 * facts["reorder"], entities)
        else:
            break
    return {**facts, "recall_k": k, "recall_queries": len(queries)}


def measure_recall(
    ids: Int[np.ndarray, "N K"], wanted: Int[np.ndarray, "N M"]
) -> float:
    """The mean share, over queries, of the wanted ids that are among `ids`."""
    hits = [np.isin(w, i).mean() for i, w in zip(ids, wanted, strict=True)]
    return float(np.mean(hits))


def load_scann(path: Path, facts: Mapping[str, Any], entities: int) -> Callable:
    """Open ScaNN's files: a function (queries, k) -> ids, scores, as `search_exact`.

    Unlike those of `search_exact`, the results of a query are in no particular order.
    """
    from scann.scann_ops.py import scann_ops_pybind

    searcher = scann_ops_pybind.load_searcher(str(path))
    return lambda queries, k: _search(searcher, facts, entities, queries, k)


def _search(
    searcher, facts: Mapping[str, Any], entities: int, queries: np.ndarray, k: int
) -> tuple[Int[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
    # not `search`, which rounds otherwise: the rows of `search_batched` are independent
    reorder = min(max(facts["reorder"], 4 * k), entities)
    ids, scores = searcher.search_batched(
        queries, k, reorder, facts["leaves_to_search"]
    )
    short = np.isnan(scores).any(1)  # the leaves searched held fewer than k entities
    if short.any():
        every = searcher.search_batched(queries[short], k, entities, facts["leaves"])
        ids[short], scores[short] = every
    return ids.astype(np.int64), scores
