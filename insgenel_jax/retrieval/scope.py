"""Texts in; the entities that retrieval finds for each place of them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from insgenel_jax.kb.entity_scores import EntityScores
from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text import chunking


class Retrieved(NamedTuple):
    """What the W windows of one text retrieve: K entities each.

    starts, ends: the characters [start, end) of each window; both ascend. vectors: the
    embeddings of the windows.
    """

    starts: Int[np.ndarray, " W"]
    ends: Int[np.ndarray, " W"]
    entities: Int[np.ndarray, "W K"]
    scores: Float[np.ndarray, "W K"]
    vectors: Float[np.ndarray, "W D"]

    def windows(self, start: int, end: int) -> slice:
        """The rows of the windows that overlap the characters [start, end)."""
        first = np.searchsorted(self.ends, start, side="right")
        last = np.searchsorted(self.starts, end, side="left")
        return slice(int(first), int(last))

    def within(self, start: int, end: int) -> Retrieved:
        """What the windows that overlap the characters [start, end) retrieve."""
        rows = self.windows(start, end)
        return Retrieved(*(column[rows] for column in self))

    def touching(self, start: int, end: int) -> EntityScores:
        """The entities of all windows that overlap the characters [start, end).

        An entity that several of these windows retrieve keeps its best score.
        """
        rows = self.windows(start, end)
        entities, scores = self.entities[rows].ravel(), self.scores[rows].ravel()
        order = np.lexsort((-scores, entities))
        entities, scores = entities[order], scores[order]
        best = np.diff(entities, prepend=-1) != 0
        return EntityScores(entities[best], scores[best])


def retrieve(
    retriever: Retriever, index: Index, texts: Sequence[str], *, top_k: int
) -> list[Retrieved]:
    """Cut each text into windows and search `top_k` entities for each of them."""
    spans = [
        chunking.windows(text, retriever.window_length, retriever.stride)
        for text in texts
    ]
    windows = [
        text[slice(*span)]
        for text, of_text in zip(texts, spans, strict=True)
        for span in of_text
    ]
    vectors = np.zeros((0, index.dim), np.float32)
    if windows:
        vectors = retriever.embed_windows(windows)
    entities, scores = index.search(vectors, top_k)
    retrieved, row = [], 0
    for of_text in spans:
        starts, ends = np.array(of_text, np.int64).reshape(-1, 2).T
        rows = slice(row, row + len(of_text))
        retrieved.append(
            Retrieved(starts, ends, entities[rows], scores[rows], vectors[rows])
        )
        row += len(of_text)
    return retrieved
