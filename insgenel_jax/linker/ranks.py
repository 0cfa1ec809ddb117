"""Documents and wanted entities in; their ranks in what a linker retrieves out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from insgenel_jax.linker.linker import Linker
from insgenel_jax.retrieval.scope import Retrieved, retrieve
from insgenel_jax.text.document import Document

Wanted = tuple[int, int, int]  # characters [start, end), and an entity


def rank_entities(
    linker: Linker,
    documents: Sequence[Document],
    wanted: Sequence[Sequence[Wanted]],
    top_k: int,
) -> list[list[int | None]]:
    """The rank, from 1, of each wanted entity among `top_k` of all entities.

    It is the best one in the windows that overlap the entity's place, and None where no
    window has the entity. wanted: of each document. Raises ValueError for a linker
    without a retriever.
    """
    if linker.retriever is None or linker.index is None:
        raise ValueError("ranks: expected a linker with a retriever, found none in it")
    texts = [document.text for document in documents]
    found = retrieve(linker.retriever, linker.index, texts, top_k=top_k)
    return [
        [_rank(retrieved, *place) for place in places]
        for retrieved, places in zip(found, wanted, strict=True)
    ]


def _rank(retrieved: Retrieved, start: int, end: int, entity: int) -> int | None:
    rows = retrieved.entities[retrieved.windows(start, end)]
    places = np.nonzero(rows == entity)[1]
    return int(places.min()) + 1 if len(places) else None
