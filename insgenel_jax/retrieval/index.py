"""Embeddings of entities in; the nearest entities of queries, by dot product, out.

An index directory holds the embeddings, index.json (how they are searched) and, for a
large knowledge base, ScaNN's files:

    embeddings/  index.json  scann/
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore as ts
from jaxtyping import Float, Int

from insgenel_jax import artifact
from insgenel_jax.retrieval.approximate import build_scann, has_scann, load_scann
from insgenel_jax.retrieval.exact import search_exact
from insgenel_jax.retrieval.store import ROWS, create_store, open_store

KIND = "index"
VERSION = 1
SCANN_FROM = 100_000  # entities from which on ScaNN is used
SCANN_LEAST = 256  # entities below which it has nothing to partition
SAMPLES = 256  # queries that recall is measured on
_EXACT: dict[str, Any] = {"method": "exact", "recall": 1.0}


@dataclasses.dataclass(frozen=True)
class Index:
    """Embeddings [entities, dim] and a way to search them.

    method: "exact" or "scann". recall: ScaNN's against exact search, when it was built;
    1 for exact search. made_from: identities of the parts, by role. search_rows: the
    method itself, from checked queries and k to ids and scores in any order.
    """

    entities: int
    dim: int
    method: str
    recall: float
    made_from: Mapping[str, str]
    search_rows: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]] = (
        dataclasses.field(repr=False)
    )

    def search(
        self, queries: Float[np.ndarray, "N D"], k: int
    ) -> tuple[Int[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
        """The k best entities of each query: ids int32 and scores float32, [N, k].

        Best first, ties by the smaller id; k is clipped to the number of entities. A
        query's answer is the same whatever is searched with it. Raises ValueError for
        queries of another shape or that are not finite.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim or k < 1:
            raise ValueError(
                f"expected queries [N, {self.dim}] and k >= 1, found queries "
                f"{list(queries.shape)} and k = {k}; do index and retriever match?"
            )
        queries = np.ascontiguousarray(queries, np.float32)
        if not np.isfinite(queries).all():
            rows = np.flatnonzero(~np.isfinite(queries).all(1))
            raise ValueError(f"queries: rows {rows[:5].tolist()} are not finite")
        k = min(k, self.entities)
        if not len(queries):
            return np.empty((0, k), np.int32), np.empty((0, k), np.float32)
        ids, scores = self.search_rows(queries, k)
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

    exact: whether to search exactly; None uses ScaNN from `SCANN_FROM` entities on.
    queries: what recall is measured on and tuned by, real ones at best; without them,
    the embeddings of some entities.
    Raises ValueError for embeddings that are not finite.
    """
    entities, dim = embeddings.shape
    if not entities:
        raise ValueError(f"{path}: no embeddings to index")
    use_scann = _choose_scann(path, entities, exact)
    with artifact.create(path, KIND, VERSION) as draft:
        draft.made_from.update(made_from)
        draft.counts.update(entities=entities, dimensions=dim)
        store = create_store(entities, dim, draft.path / "embeddings")
        for first in range(0, entities, ROWS):
            rows = slice(first, min(first + ROWS, entities))
            part = _read(embeddings[rows])
            finite = np.isfinite(part.astype(np.float32)).all(1)
            if not finite.all():
                bad = (first + np.flatnonzero(~finite))[:5].tolist()
                raise ValueError(f"{path}: embeddings of entities {bad} are not finite")
            store[rows].write(part).result()
        facts = _EXACT
        if use_scann:
            vectors = _read(store).astype(np.float32)
            if queries is None:
                queries = _sample(vectors)
            facts = build_scann(vectors, draft.path / "scann", queries[:SAMPLES])
        (draft.path / "index.json").write_text(json.dumps(facts, indent=1) + "\n")
    return open_index(path)


def _choose_scann(path: str | os.PathLike, entities: int, exact: bool | None) -> bool:
    """Whether the index is searched with ScaNN; a warning where it cannot be."""
    use_scann = entities >= SCANN_FROM if exact is None else not exact
    if use_scann and entities < SCANN_LEAST:
        warnings.warn(
            f"{path}: ScaNN needs at least {SCANN_LEAST} entities, found {entities}; "
            "the index is searched exactly",
            stacklevel=3,
        )
        return False
    return use_scann and has_scann(path)


def _sample(vectors: Float[np.ndarray, "E D"]) -> Float[np.ndarray, "N D"]:
    rng = np.random.default_rng(0)
    count = min(SAMPLES, len(vectors))
    return vectors[np.sort(rng.choice(len(vectors), count, replace=False))]


def open_index(path: str | os.PathLike, *, verify: bool = False) -> Index:
    """Open an index directory. Where ScaNN cannot be imported it is searched exactly.

    Raises artifact.ArtifactError that names what is missing or damaged.
    """
    path = Path(path)
    manifest = artifact.check(path, KIND, VERSION, verify=verify)
    facts = artifact.read_json(path / "index.json", "method", "recall")
    if facts["method"] == "scann" and not has_scann(path):
        facts = _EXACT
    if facts["method"] == "scann":
        search = load_scann(path / "scann", facts, manifest.counts["entities"])
    else:
        vectors = _read(open_store(path / "embeddings")).astype(np.float32)
        search = functools.partial(search_exact, vectors)
    return Index(
        entities=manifest.counts["entities"],
        dim=manifest.counts["dimensions"],
        method=facts["method"],
        recall=facts["recall"],
        made_from=manifest.made_from,
        search_rows=search,
    )


def _read(array: ts.TensorStore | np.ndarray) -> np.ndarray:
    """Embeddings as a bfloat16 array in memory."""
    if isinstance(array, ts.TensorStore):
        array = array.read().result()
    return np.asarray(array).astype(ml_dtypes.bfloat16)
