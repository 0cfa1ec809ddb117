"""Embeddings of entities in; the nearest entities of queries, by dot product, out.

Exact search is the oracle, and what small knowledge bases get; ScaNN is for large ones,
with its recall against the exact measured when it is built.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import tensorstore as ts
from jaxtyping import Float, Int

from insgenel_jax import artifact
from insgenel_jax.retrieval.retriever import ROWS, create_store, open_store

KIND = "index"
VERSION = 1
SCANN_FROM = 100_000  # entities from which ScaNN is taken
SCANN_LEAST = 256  # entities below which it has nothing to partition
TARGET, TARGET_K = 0.98, 100  # recall that a new ScaNN index is tuned to, and its k
SAMPLES = 256  # queries that recall is measured on
GROUP, PAD, BLOCK = 256, 64, 32_768  # exact search: queries and entities at a time
SPARE = 16  # candidates beyond the k best, which rounding may have swapped with them

Found = tuple[Int[np.ndarray, "N K"], Float[np.ndarray, "N K"]]


@dataclasses.dataclass(frozen=True)
class Index:
    """Embeddings [entities, dim] and a way to search them.

    method: "exact" or "scann". recall: of ScaNN at `TARGET_K` against the exact search
    when it was built; 1 for exact search. made_from: identities of the parts.
    """

    entities: int
    dim: int
    method: str
    recall: float
    made_from: Mapping[str, str]
    run: Callable[[np.ndarray, int], Found] = dataclasses.field(repr=False)

    def search(self, queries: Float[np.ndarray, "N D"], k: int) -> Found:
        """The k best entities of each query: ids int32, scores float32, [N, k].

        Best first, ties by the smaller id; k is clipped to the number of entities. A
        row is the same whatever rows are searched with it. Raises ValueError for
        queries of another shape or that are not finite.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dim or k < 1:
            raise ValueError(
                f"expected queries [N, {self.dim}] and k >= 1, found queries "
                f"{list(queries.shape)} and k = {k}; do index and retriever match?"
            )
        if not np.isfinite(queries).all():
            rows = np.flatnonzero(~np.isfinite(queries).all(1))
            raise ValueError(f"queries: rows {rows[:5].tolist()} are not finite")
        k = min(k, self.entities)
        if not len(queries):
            return np.empty((0, k), np.int32), np.empty((0, k), np.float32)
        ids, scores = self.run(queries, k)
        order = np.lexsort((ids, -scores))
        ids, scores = (np.take_along_axis(a, order, 1) for a in (ids, scores))
        return ids.astype(np.int32), scores


def build_index(
    embeddings: ts.TensorStore | np.ndarray,
    path: str | os.PathLike,
    *,
    made_from: Mapping[str, str],
    exact: bool | None = None,
    queries: np.ndarray | None = None,
) -> Index:
    """Write the index directory of embeddings [E, D] and open it.

    exact: None takes ScaNN from `SCANN_FROM` entities up. queries: what recall is
    measured on and tuned by, best real ones; entities' own embeddings without.
    Raises ValueError for embeddings that are not finite.
    """
    entities, dim = embeddings.shape
    if not entities:
        raise ValueError(f"{path}: no embeddings to index")
    use_scann = entities >= SCANN_FROM if exact is None else not exact
    if use_scann and entities < SCANN_LEAST:
        warnings.warn(
            f"{path}: ScaNN needs at least {SCANN_LEAST} entities, found {entities}; "
            "the index is searched exactly",
            stacklevel=2,
        )
        use_scann = False
    use_scann = use_scann and _has_scann(path)
    with artifact.create(path, KIND, VERSION) as draft:
        draft.made_from.update(made_from)
        draft.counts.update(entities=entities, dimensions=dim)
        store = create_store(entities, dim, draft.path / "embeddings")
        for first in range(0, entities, ROWS):
            rows = slice(first, min(first + ROWS, entities))
            block = _read(embeddings[rows])
            if not np.isfinite(block.astype(np.float32)).all():
                bad = first + np.flatnonzero(~np.isfinite(block.astype("f4")).all(1))
                raise ValueError(
                    f"{path}: embeddings of entities {bad[:5].tolist()} are not finite"
                )
            store[rows].write(block).result()
        facts = {"method": "exact", "recall": 1.0}
        if use_scann:
            vectors = _read(store).astype(np.float32)
            if queries is None:
                rng = np.random.default_rng(0)
                count = min(SAMPLES, entities)
                queries = vectors[np.sort(rng.choice(entities, count, replace=False))]
            facts = _build_scann(vectors, draft.path / "scann", queries[:SAMPLES])
        (draft.path / "index.json").write_text(json.dumps(facts, indent=1) + "\n")
    return open_index(path)


def open_index(path: str | os.PathLike, *, verify: bool = False) -> Index:
    """Open an index directory. Where ScaNN cannot be imported it is searched exactly.

    Raises artifact.ArtifactError that names what is missing or damaged.
    """
    path = Path(path)
    manifest = artifact.check(path, KIND, VERSION, verify=verify)
    facts = artifact.read_json(path / "index.json", "method", "recall")
    if facts["method"] == "scann" and not _has_scann(path):
        facts = {"method": "exact", "recall": 1.0}
    if facts["method"] == "scann":
        run = _load_scann(path / "scann", facts, manifest.counts["entities"])
    else:
        vectors = _read(open_store(path / "embeddings")).astype(np.float32)

        def run(queries, k):
            return search_exact(vectors, queries, k)

    return Index(
        entities=manifest.counts["entities"],
        dim=manifest.counts["dimensions"],
        method=facts["method"],
        recall=facts["recall"],
        made_from=manifest.made_from,
        run=run,
    )


def search_exact(
    vectors: Float[np.ndarray, "E D"], queries: Float[np.ndarray, "N D"], k: int
) -> Found:
    """The k <= E rows of largest dot product with each query, best first, ties by id.

    No row depends on the others: what is best by the products of matrices, whose last
    bits change with a query's place among the others, is scored again by itself.
    """
    ids = np.concatenate(
        [
            _search_group(vectors, queries[first : first + GROUP], k)
            for first in range(0, len(queries), GROUP)
        ]
    )
    scores = np.zeros((len(ids), ids.shape[1]), np.float32)
    for row, query in enumerate(queries):
        ids[row].sort()
        (vectors[ids[row]] * query).sum(1, out=scores[row])
    # stable, and ids ascend: a tie goes to the smaller
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return tuple(np.take_along_axis(a, best, 1) for a in (ids, scores))


def _search_group(vectors, queries, k: int) -> np.ndarray:
    """The best k of each query, and SPARE more where there are, in any order."""
    count = len(queries)
    k = min(k + SPARE, len(vectors))
    padded = np.zeros((-(-count // PAD), PAD, queries.shape[1]), np.float32)
    padded.reshape(-1, queries.shape[1])[:count] = queries
    ids = np.zeros((count, 0), np.int64)
    scores = np.zeros((count, 0), np.float32)
    for first in range(0, len(vectors), BLOCK):
        block = vectors[first : first + BLOCK]
        new = np.concatenate([block @ part.T for part in padded], 1)[:, :count]
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
        scores, ids = (np.take_along_axis(a, best, 1) for a in (scores, ids))
    return ids


def _squeeze(new, entering):
    """The marked ones of [BLOCK, N] as rows [N, most]: scores, and where they stood.

    In order; -inf fills the rest.
    """
    at, rows = np.nonzero(entering)
    order = np.argsort(rows, kind="stable")
    at, rows = at[order], rows[order]
    counts = np.bincount(rows, minlength=new.shape[1])
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (new.shape[1], counts.max(initial=0))
    scores = np.full(shape, -np.inf, np.float32)
    columns = np.zeros(shape, np.int64)
    scores[rows, place] = new[at, rows]
    columns[rows, place] = at
    return scores, columns


def _build_scann(vectors: np.ndarray, path: Path, queries: np.ndarray) -> dict:
    """Train ScaNN, write its files, and find the cheapest search of enough recall."""
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
        # at most 256 blocks, beyond which ScaNN cannot keep one global top list
        .score_ah(
            max(2, math.ceil(dim / 256)),
            anisotropic_quantization_threshold=0.2,
            training_sample_size=sample,
        )
        # the embeddings are bfloat16 already: nothing is lost
        .reorder(1000, scann_builder.ReorderType.BFLOAT16)
        .set_n_training_threads(os.cpu_count() or 1)
        .build()
    )
    path.mkdir()
    searcher.serialize(str(path), relative_path=True)
    k = min(TARGET_K, entities)
    wanted, _ = search_exact(vectors, queries, k)
    facts = {"method": "scann", "leaves": leaves, "reorder": min(10 * k, entities)}
    share = 0.02
    while True:
        facts["leaves_to_search"] = min(math.ceil(share * leaves), leaves)
        found, _ = _run_scann(searcher, facts, entities, queries, k)
        facts["recall"] = measure_recall(found, wanted)
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
    found: Int[np.ndarray, "N K"], wanted: Int[np.ndarray, "N K"]
) -> float:
    """The mean share of the wanted ids that were found."""
    hits = [np.isin(w, f).mean() for f, w in zip(found, wanted, strict=True)]
    return float(np.mean(hits))


def _load_scann(path: Path, facts: dict, entities: int) -> Callable[..., Found]:
    from scann.scann_ops.py import scann_ops_pybind

    searcher = scann_ops_pybind.load_searcher(str(path))
    return lambda queries, k: _run_scann(searcher, facts, entities, queries, k)


def _run_scann(searcher, facts: dict, entities: int, queries, k: int) -> Found:
    # `search` rounds otherwise than `search_batched`, whose rows are independent
    reorder = min(max(facts["reorder"], 4 * k), entities)
    ids, scores = searcher.search_batched(
        queries, k, reorder, facts["leaves_to_search"]
    )
    short = np.isnan(scores).any(1)  # the leaves searched held fewer than k
    if short.any():
        every = searcher.search_batched(queries[short], k, entities, facts["leaves"])
        ids[short], scores[short] = every
    return ids.astype(np.int64), scores


def _has_scann(path) -> bool:
    if importlib.util.find_spec("scann") is None:
        warnings.warn(
            f"{path}: ScaNN cannot be imported (it is for Linux alone); the index is "
            "searched exactly",
            stacklevel=3,
        )
        return False
    return True


def _read(array: ts.TensorStore | np.ndarray) -> np.ndarray:
    """Embeddings as a bfloat16 array in memory."""
    if isinstance(array, ts.TensorStore):
        array = array.read().result()
    return np.asarray(array).astype(ml_dtypes.bfloat16)
