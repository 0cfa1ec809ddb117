"""Texts in; the entities that retrieval finds for each place of them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text import chunking
from insgenel_jax.text.document import normalise


class Found(NamedTuple):
    """Entities by number, ascending, with the best score of each: [N] each."""

    entities: np.ndarray  # int32
    scores: np.ndarray  # float32


class Retrieved(NamedTuple):
    """What the W windows of a text retrieve: K entities each."""

    starts: np.ndarray  # int64 [W], ascending, as are the ends
    ends: np.ndarray  # int64 [W]
    entities: np.ndarray  # int32 [W, K]
    scores: np.ndarray  # float32 [W, K]

    def touching(self, start: int, end: int) -> Found:
        """The entities of all windows that overlap the characters [start, end)."""
        first = np.searchsorted(self.ends, start, side="right")
        last = np.searchsorted(self.starts, end, side="left")
        entities = self.entities[first:last].ravel()
        scores = self.scores[first:last].ravel()
        order = np.lexsort((-scores, entities))
        entities, scores = entities[order], scores[order]
        best = np.diff(entities, prepend=-1) != 0
        return Found(entities[best], scores[best])


def retrieve(
    retriever: Retriever, index: Index, texts: Sequence[str], *, top_k: int
) -> list[Retrieved]:
    """Cut each text into windows and search `top_k` entities for each of them."""
    spans = [
        chunking.windows(text, retriever.window_length, retriever.stride)
        for text in texts
    ]
    windows = [
        normalise(text[slice(*span)])
        for text, found in zip(texts, spans, strict=True)
        for span in found
    ]
    if windows:
        entities, scores = index.search(retriever.embed_windows(windows), top_k)
    else:
        entities, scores = np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32)
    retrieved, row = [], 0
    for found in spans:
        starts, ends = np.array(found, np.int64).reshape(-1, 2).T
        rows = slice(row, row + len(found))
        retrieved.append(Retrieved(starts, ends, entities[rows], scores[rows]))
        row += len(found)
    return retrieved
