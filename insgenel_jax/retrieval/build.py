"""A knowledge base and a retriever in; the index directory of all its entities out."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from insgenel_jax import aside
from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.retrieval.compress import check_vector_bytes
from insgenel_jax.retrieval.index import SAMPLES, Index, build_index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text import chunking

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
    tell: Callable[[str], None] = lambda step: None,
) -> Indexed:
    """Embed all entities of a knowledge base and write their index to `out`.

    made_from: identities of the "knowledge-base" and the "retriever", which a linker
    compares with its own. exact, vector_bytes: see `build_index`. texts: a
    knowledge base that knows more about the entities, see `encoder.tokenize_entities`.
    tell: called with what is about to be done, for a user who waits.
    """
    check_vector_bytes(vector_bytes, retriever.dim, exact)  # before the long work
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with aside.folder(out.with_name(f"{out.name}.embeddings")) as folder:
        tell(f"embedding {len(kb)} entities")
        embeddings = retriever.embed_entities(kb, folder / "embeddings", texts)
        embedded = time.perf_counter()
        tell("building the index")
        windows = sample_windows(texts or kb, retriever.window_length, SAMPLES)
        queries = retriever.embed_windows(windows) if windows else None
        index = build_index(
            embeddings,
            out,
            made_from=made_from,
            exact=exact,
            queries=queries,
            vector_bytes=vector_bytes,
        )
    built = time.perf_counter()
    found = share_found(kb, retriever, index)
    return Indexed(index, embedded - began, built - embedded, found)


def share_found(
    kb: KnowledgeBase, retriever: Retriever, index: Index, top_k: int = TOP_K
) -> float:
    """The share of some entities that a retriever finds for their title alone.

    A retriever that was trained on other entities finds few, and then INSGENEL-R, which
    allows only what is retrieved, links almost nothing. 1 where there is no entity.
    """
    rows = np.random.default_rng(0).permutation(len(kb))[:PROBED]
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
    rows = np.random.default_rng(0).permutation(len(kb))
    texts: list[str] = []
    for row in rows.tolist():
        text = kb.entity_text(row)
        texts += [
            text[slice(*span)] for span in chunking.windows(text, length, length)[:1]
        ]
        if len(texts) == count:
            break
    return texts
