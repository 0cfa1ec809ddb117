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

    starts, ends: the characters [start, end) of each window; both ascend.
    """

    starts: Int[np.ndarray, " W"]
    ends: Int[np.ndarray, " W"]
    entities: Int[np.ndarray, "W K"]
    scores: Float[np.ndarray, "W K"]

    def touching(self, start: int, end: int) -> EntityScores:
        """The entities of all windows that overlap the characters [start, end).

        An entity that several of these windows retrieve keeps its best score.
        """
        first = np.searchsorted(self.ends, start, side="right")
        last = np.searchsorted(self.starts, end, side="left")
        entities = self.entities[first:last].ravel()
        scores = self.scores[first:last].ravel()
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
    if windows:
        entities, scores = index.search(retriever.embed_windows(windows), top_k)
    else:
        entities, scores = np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32)
    retrieved, row = [], 0
    for of_text in spans:
        starts, ends = np.array(of_text, np.int64).reshape(-1, 2).T
        rows = slice(row, row + len(of_text))
        retrieved.append(Retrieved(starts, ends, entities[rows], scores[rows]))
        row += len(of_text)
    return retrieved
