"""A knowledge base and a retriever in; the index directory of all its entities out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorstore as ts
from jaxtyping import Int, Int32

from insgenel_jax import artifact, lock
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.retrieval.compress import check_vector_bytes
from insgenel_jax.retrieval.index import (
    SAMPLES,
    Index,
    build_index,
    build_segments,
    read_embeddings,
)
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.retrieval.segments import GROWTH
from insgenel_jax.text import chunking
from insgenel_jax.text.formats.rejects import InputError

PROBED = 256  # entities that are looked for by their titles
TOP_K = 100  # of the linker, unless it is set


@dataclasses.dataclass(frozen=True)
class Indexed:
    """A new index, and how long its two steps took, in seconds.

    found: the share of some entities that are retrieved for a text that is their title.
    """

    index: Index
    embedding_seconds: float
    building_seconds: float
    found: float = 1.0


def index_entities(
    kb: KnowledgeBase,
    retriever: Retriever,
    out: str | os.PathLike,
    *,
    made_from: Mapping[str, str],
    exact: bool | None = None,
    vector_bytes: int | None = None,
    texts: KnowledgeBase | None = None,
    base: str | os.PathLike | None = None,
    tell: Callable[[str], None] = lambda step: None,
) -> Indexed:
    """Embed all entities of a knowledge base and write their index to `out`.

    Embeddings are kept in a hidden folder beside it until the index is complete. Where
    the same was begun before, and was stopped, it is gone on with.

    made_from: identities of the "knowledge-base" and the "retriever", which a linker
    compares with its own. exact, vector_bytes: see `build_index`. texts: a
    knowledge base that knows more about the entities, see `encoder.tokenize_entities`.
    base: for a knowledge base with an overlay, the index of its base; only what was
    added is embedded. Past a growth of `GROWTH` all is indexed anew. tell: called with
    what is about to be done, for a user who waits.
    """
    check_vector_bytes(vector_bytes, retriever.dim, exact)  # before the long work
    first = 0 if base is None else _check_base(kb, base, made_from)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    facts = {**made_from, "entities": f"{first}:{len(kb)}"}
    with _kept_folder(out, facts) as folder:
        tell(f"embedding {len(kb) - first} entities")
        embeddings = retriever.embed_entities(kb, folder / "embeddings", texts, first)
        embedded = time.perf_counter()
        tell("building the index")
        before = None if base is None else read_embeddings(base)
        grown = len(kb) - first + len(kb.removed) > GROWTH * first
        if base is not None and (before is None or not grown):
            index = build_segments(
                base, embeddings, kb.removed, out, made_from=made_from
            )
        else:
            if before is not None:
                embeddings = ts.concat([before, embeddings], axis=0)
            windows = sample_windows(texts or kb, retriever.window_length, SAMPLES)
            build = functools.partial(
                build_index,
                embeddings,
                made_from=made_from,
                exact=exact,
                queries=retriever.embed_windows(windows) if windows else None,
                vector_bytes=vector_bytes,
            )
            index = _build_without(kb.removed, build, out, folder, made_from)
    built = time.perf_counter()
    found = share_found(kb, retriever, index)
    return Indexed(index, embedded - began, built - embedded, found)


def _build_without(
    removed: Int32[np.ndarray, " R"],
    build: Callable[[Path], Index],
    out: Path,
    folder: Path,
    made_from: Mapping[str, str],
) -> Index:
    """Build an index at `out`, in which no search gives a removed row.

    build: builds it at a path. folder: for what is between.
    """
    if not len(removed):
        return build(out)
    index = build(folder / "index")
    none = np.zeros((0, index.dim), np.float32)
    return build_segments(folder / "index", none, removed, out, made_from=made_from)


def _check_base(
    kb: KnowledgeBase, base: str | os.PathLike, made_from: Mapping[str, str]
) -> int:
    """The number of rows of a base, whose index is to be that in `base`.

    Raises InputError where the index is not that of the base, or of this retriever.
    """
    if kb.base_rows is None:
        raise InputError(
            f"{kb.path}: expected a knowledge base with an overlay beside the index of "
            "its base, found one without; leave the index of a base out"
        )
    manifest = artifact.read(base)
    wanted = {
        "knowledge-base": artifact.read(kb.path).made_from["base"],
        "retriever": made_from.get("retriever"),
    }
    for role, identity in wanted.items():
        found = manifest.made_from.get(role)
        if found != identity:
            raise InputError(
                f"{base}: expected an index of the {role} {str(identity)[:12]}, the "
                f"one of the overlay's base, found that of {str(found)[:12]}; give the "
                "index of the base, or none to embed all entities"
            )
    return kb.base_rows


@contextlib.contextmanager
def _kept_folder(out: Path, facts: Mapping[str, str]) -> Iterator[Path]:
    """A folder beside `out` that stays where the work in it fails, for the next call.

    facts: what the work depends on. What is there of other work is removed first.
    """
    folder = out.with_name(f".{out.name}.embeddings")
    with lock.hold(folder):
        file, text = folder / "made_from.json", json.dumps(dict(facts), sort_keys=True)
        known = facts.keys() >= {"knowledge-base", "retriever"}
        if not (known and file.is_file() and file.read_text() == text):
            for left in folder.iterdir():
                if left.is_dir():
                    shutil.rmtree(left)
            file.write_text(text)
        yield folder
        shutil.rmtree(folder)


def share_found(
    kb: KnowledgeBase, retriever: Retriever, index: Index, top_k: int = TOP_K
) -> float:
    """The share of some entities that a retriever finds for their title alone.

    A retriever that was trained on other entities finds few, and then INSGENEL-R, which
    allows only what is retrieved, links almost nothing. 1 where there is no entity.
    """
    rows = _shuffled(kb)[:PROBED]
    if not len(rows):
        return 1.0
    titles = [kb.title(row) for row in rows.tolist()]
    entities, _ = index.search(retriever.embed_windows(titles), top_k)
    return float(
        np.mean([row in found for row, found in zip(rows, entities, strict=True)])
    )


def sample_windows(kb: KnowledgeBase, length: int, count: int) -> list[str]:
    """Text like that the retriever will see: the first windows of some entities' texts.

    length: of a window, in words. count: how many windows at most.
    """
    rows = _shuffled(kb)
    texts: list[str] = []
    for row in rows.tolist():
        text = kb.entity_text(row)
        texts += [
            text[slice(*span)] for span in chunking.windows(text, length, length)[:1]
        ]
        if len(texts) == count:
            break
    return texts


def _shuffled(kb: KnowledgeBase) -> Int[np.ndarray, " N"]:
    """The rows of all entities but removed ones, in an order that stays the same."""
    rows = np.delete(np.arange(len(kb)), kb.removed)
    return np.random.default_rng(0).permutation(rows)
