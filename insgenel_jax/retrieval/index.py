"""Embeddings of entities in; the nearest entities of queries, by dot product, out.

An index directory holds the embeddings, index.json (how they are searched) and, for a
large knowledge base, ScaNN's files:

    embeddings/  index.json  scann/

An index of few bytes for a vector holds these bytes in place of the embeddings, and
what takes queries to their dimensions:

    embeddings/  index.json  projection.npy

The index of an overlay (kb/overlay.py) holds that of its base, see
retrieval/segments.py:

    base/  embeddings/  removed.npy  index.json
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import tensorstore as ts
from jaxtyping import Float, Float32, Int, Int32, Real

from insgenel_jax import artifact
from insgenel_jax.retrieval.approximate import (
    TARGET_K,
    build_scann,
    has_scann,
    load_scann,
    measure_recall,
)
from insgenel_jax.retrieval.compress import (
    check_vector_bytes,
    compress,
    pack,
    project,
    read_projection,
    unpack,
)
from insgenel_jax.retrieval.exact import search_exact
from insgenel_jax.retrieval.segments import BASE, REMOVED, Segments
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

    method: "exact", "scann", or "compressed" for exact search among vectors of few
    bytes. recall: against exact search among the embeddings, when the index was built;
    1 for exact search. made_from: identities of the parts, by role. search_rows: the
    method itself, from checked queries and k to ids and scores in any order.
    read_vectors: gives what is searched, [entities, N]. projection: what takes queries
    from `dim` to N dimensions, where vectors have few bytes. segments: of an index with
    the method "segments"; what it removed counts in `entities`, but nothing finds it.
    """

    entities: int
    dim: int
    method: str
    recall: float
    made_from: Mapping[str, str]
    search_rows: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]] = (
        dataclasses.field(repr=False)
    )
    read_vectors: Callable[[], np.ndarray] = dataclasses.field(repr=False)
    projection: Float32[np.ndarray, "D N"] | None = dataclasses.field(
        default=None, repr=False
    )
    segments: Segments | None = dataclasses.field(default=None, repr=False)

    def search(
        self, queries: Float[np.ndarray, "N D"], k: int
    ) -> tuple[Int[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
        """The k best entities of each query: ids int32 and scores float32, [N, k].

        Best first, ties by the smaller id; k is clipped to the number of entities. A
        query's answer is the same whatever is searched with it. Raises ValueError for
        queries of another shape or that are not finite.
        """
        if k < 1:
            raise ValueError(f"expected k >= 1, found k = {k}")
        queries = self._project(queries)
        k = min(k, self.entities)
        if self.segments is not None:
            k = min(k, self.entities - len(self.segments.removed))
        if not len(queries):
            return np.empty((0, k), np.int32), np.empty((0, k), np.float32)
        ids, scores = self.search_rows(queries, k)
        order = np.lexsort((ids, -scores))
        ids, scores = (np.take_along_axis(a, order, 1) for a in (ids, scores))
        return ids.astype(np.int32), scores

    def score(
        self, queries: Float[np.ndarray, "W D"], entities: Int[np.ndarray, " K"]
    ) -> Float32[np.ndarray, "W K"]:
        """The dot products of queries and entities: what `search` gives, to rounding.

        Raises ValueError for queries of another shape or that are not finite. Where
        ScaNN searches, the first call reads the embeddings, which take entities x dim x
        2 bytes of memory.
        """
        if self.segments is not None:
            return self.segments.score(self._project(queries), entities)
        rows = self._vectors[entities].astype(np.float32, copy=False)
        return self._project(queries) @ rows.T

    @functools.cached_property
    def _vectors(self) -> Real[np.ndarray, "E N"]:
        return self.read_vectors()

    def _project(self, queries: Float[np.ndarray, "N D"]) -> Float32[np.ndarray, "N M"]:
        """Checked queries, in the dimensions of the vectors."""
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(
                f"expected queries [N, {self.dim}], found queries "
                f"{list(queries.shape)}; do index and retriever match?"
            )
        queries = np.ascontiguousarray(queries, np.float32)
        if not np.isfinite(queries).all():
            rows = np.flatnonzero(~np.isfinite(queries).all(1))
            raise ValueError(f"queries: rows {rows[:5].tolist()} are not finite")
        if self.projection is None:
            return queries
        return project(queries, self.projection)


def build_index(
    embeddings: ts.TensorStore | np.ndarray,
    path: str | os.PathLike,
    *,
    made_from: Mapping[str, str],
    exact: bool | None = None,
    queries: np.ndarray | None = None,
    vector_bytes: int | None = None,
) -> Index:
    """Write the index directory of embeddings [E, D] and open it.

    exact: whether to search exactly; None uses ScaNN from `SCANN_FROM` entities on.
    queries: what recall is measured on and tuned by, real ones at best; without them,
    the embeddings of some entities. vector_bytes: the most bytes kept of an embedding,
    1 to D; these are searched exactly. None keeps the embeddings, in bfloat16. Raises
    ValueError for embeddings that are not finite, and for other vector_bytes.
    """
    entities, dim = embeddings.shape
    if not entities:
        raise ValueError(f"{path}: no embeddings to index")
    check_vector_bytes(vector_bytes, dim, exact)
    use_scann = vector_bytes is None and _choose_scann(path, entities, exact)
    with artifact.create(path, KIND, VERSION) as draft:
        draft.made_from.update(made_from)
        draft.counts.update(entities=entities, dimensions=dim)
        facts = _EXACT
        if vector_bytes is not None:
            vectors = np.concatenate([p for _, p in _finite_parts(embeddings, path)])
            facts = _write_compressed(draft.path, vectors, vector_bytes, queries)
        else:
            store = create_store(entities, dim, draft.path / "embeddings")
            for rows, part in _finite_parts(embeddings, path):
                store[rows].write(part).result()
        if use_scann:
            vectors = _read(store).astype(np.float32)
            if queries is None:
                queries = _sample(vectors)
            facts = build_scann(vectors, draft.path / "scann", queries[:SAMPLES])
        (draft.path / "index.json").write_text(json.dumps(facts, indent=1) + "\n")
    return open_index(path)


def build_segments(
    base: str | os.PathLike,
    added: ts.TensorStore | np.ndarray,
    removed: Int32[np.ndarray, " R"],
    path: str | os.PathLike,
    *,
    made_from: Mapping[str, str],
) -> Index:
    """Write the index that is the index `base` with more and fewer rows, and open it.

    added: embeddings [A, D] of the rows that follow. removed: rows that no search is to
    give, ascending. The base's files become part of it, by hard links. Its recall
    counts for the whole. Raises ValueError for embeddings that are not finite.
    """
    base = Path(base)
    made = artifact.read(base)
    rows, dim = (made.counts[name] for name in ("entities", "dimensions"))
    with artifact.create(path, KIND, VERSION) as draft:
        shutil.copytree(base, draft.path / BASE, copy_function=artifact.link_or_copy)
        draft.known.update({f"{BASE}/{n}": facts for n, facts in made.files.items()})
        draft.made_from.update(made_from)
        draft.counts.update(entities=rows + added.shape[0], dimensions=dim)
        if added.shape[0]:
            store = create_store(*added.shape, draft.path / "embeddings")
            for at, part in _finite_parts(added, path):
                store[at].write(part).result()
        np.save(draft.path / REMOVED, removed)
        facts = artifact.read_json(base / "index.json", "recall")
        facts = {"method": "segments", "recall": facts["recall"]}
        (draft.path / "index.json").write_text(json.dumps(facts, indent=1) + "\n")
    return open_index(path)


def _open_segments(path: Path, manifest: artifact.Manifest) -> Index:
    base = open_index(path / BASE)
    added = np.zeros((0, base.dim), np.float32)
    if (path / "embeddings").is_dir():
        added = _read(open_store(path / "embeddings")).astype(np.float32)
    removed = np.load(path / REMOVED)
    segments = Segments(base.entities, base.search, base.score, added, removed)
    if segments.entities != manifest.counts["entities"]:
        raise artifact.ArtifactError(
            f"{path}: expected {manifest.counts['entities']} entities, found "
            f"{segments.entities} in its parts; index again"
        )
    return Index(
        entities=segments.entities,
        dim=base.dim,
        method="segments",
        recall=base.recall,
        made_from=manifest.made_from,
        search_rows=segments.search,
        read_vectors=lambda: np.concatenate([base.read_vectors(), added]),
        segments=segments,
    )


def read_embeddings(path: str | os.PathLike) -> ts.TensorStore | None:
    """The embeddings of an index directory; None where it has others in few bytes."""
    if (
        artifact.read_json(Path(path) / "index.json", "method")["method"]
        == "compressed"
    ):
        return None
    return open_store(Path(path) / "embeddings")


def _finite_parts(
    embeddings: ts.TensorStore | np.ndarray, path: str | os.PathLike
) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of embeddings in bfloat16, some at a time, and where they stand."""
    for first in range(0, embeddings.shape[0], ROWS):
        rows = slice(first, min(first + ROWS, embeddings.shape[0]))
        part = _read(embeddings[rows])
        finite = np.isfinite(part.astype(np.float32)).all(1)
        if not finite.all():
            bad = (first + np.flatnonzero(~finite))[:5].tolist()
            raise ValueError(f"{path}: embeddings of entities {bad} are not finite")
        yield rows, part


def _write_compressed(
    path: Path,
    embeddings: Float[np.ndarray, "E D"],
    size: int,
    queries: np.ndarray | None,
) -> dict[str, Any]:
    """Write vectors of at most `size` bytes; return what index.json says of them.

    Their recall is measured on `queries`.
    """
    vectors, projection, bits, _ = compress(embeddings, size)
    packed = pack(vectors, bits)
    store = create_store(*packed.shape, path / "embeddings", "int8")
    store.write(packed).result()
    np.save(path / "projection.npy", projection)
    queries = _sample(embeddings) if queries is None else queries[:SAMPLES]
    queries = queries.astype(np.float32)
    k = min(TARGET_K, len(vectors))
    wanted, _ = search_exact(embeddings, queries, k)
    ids, _ = search_exact(vectors, project(queries, projection), k)
    return {
        "method": "compressed",
        "vector_bytes": packed.shape[1],
        "bits": bits,
        "recall": measure_recall(ids, wanted),
        "recall_k": k,
        "recall_queries": len(queries),
    }


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
    if facts["method"] == "segments":
        return _open_segments(path, manifest)
    entities, dim = (manifest.counts[name] for name in ("entities", "dimensions"))
    if facts["method"] == "scann" and not has_scann(path):
        facts = _EXACT
    store, projection = open_store(path / "embeddings"), None
    if facts["method"] == "scann":
        search = load_scann(path / "scann", facts, entities)
        read = functools.partial(_read, store)
    else:
        if facts["method"] == "compressed":
            vectors = unpack(store.read().result(), _read_bits(path, facts))
            file = path / "projection.npy"
            projection = read_projection(file, dim, vectors.shape[1])
        else:
            vectors = _read(store).astype(np.float32)
        search = functools.partial(search_exact, vectors)
        read = functools.partial(np.asarray, vectors)
    return Index(
        entities=entities,
        dim=dim,
        method=facts["method"],
        recall=facts["recall"],
        made_from=manifest.made_from,
        search_rows=search,
        read_vectors=read,
        projection=projection,
    )


def _read_bits(path: Path, facts: Mapping[str, Any]) -> int:
    if facts.get("bits") in (4, 8):
        return facts["bits"]
    raise artifact.ArtifactError(
        f"{path / 'index.json'}: bits: expected 4 or 8, found {facts.get('bits')!r}; "
        "index again"
    )


def _read(array: ts.TensorStore | np.ndarray) -> np.ndarray:
    """Embeddings as a bfloat16 array in memory."""
    if isinstance(array, ts.TensorStore):
        array = array.read().result()
    return np.asarray(array).astype(ml_dtypes.bfloat16)
