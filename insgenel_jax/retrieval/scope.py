"""Chunks of documents in; the entities that retrieval allows for their mentions out."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Sequence

from insgenel_jax import chunking
from insgenel_jax.document import normalise
from insgenel_jax.retrieval.embed import Retriever
from insgenel_jax.retrieval.index import Index

Place = tuple[int, tuple[int, int]]  # document number, characters of a chunk
Lookup = Callable[[int, int], dict[int, float]]  # mention span -> entity: score


def retrieve(
    retriever: Retriever,
    index: Index,
    texts: Sequence[str],
    places: Sequence[Place],
    *,
    top_k: int,
    scope: str,
) -> list[Lookup]:
    """The retrieved entities of each place, as a function of a mention's span.

    Every chunk is cut into windows, and each window retrieves `top_k` entities. scope
    says whose entities a mention may take, with the best score of each: those of the
    windows it touches ("window"), of all windows of its chunk ("chunk") or of its
    document ("document").
    """
    windows = [
        (place, start + a, start + b)
        for place, (number, (start, end)) in enumerate(places)
        for a, b in chunking.windows(
            texts[number][start:end], retriever.window_length, retriever.stride
        )
    ]
    if not windows:
        return [lambda start, end: {} for _ in places]
    ids, scores = index.search(
        retriever.embed_windows(
            [normalise(texts[places[place][0]][a:b]) for place, a, b in windows]
        ),
        top_k,
    )

    def group(place: int) -> int:
        return places[place][0] if scope == "document" else place

    found = collections.defaultdict(list)
    for row, (place, a, b) in enumerate(windows):
        entities = dict(zip(ids[row].tolist(), scores[row].tolist(), strict=True))
        found[group(place)].append((a, b, entities))
    lookup = _touching if scope == "window" else _all
    return [lookup(found[group(place)]) for place in range(len(places))]


def _touching(windows) -> Lookup:
    return lambda start, end: _union(
        entities for a, b, entities in windows if a < end and start < b
    )


def _all(windows) -> Lookup:
    union = _union(entities for _, _, entities in windows)
    return lambda start, end: union


def _union(parts) -> dict[int, float]:
    best: dict[int, float] = {}
    for entities in parts:
        for entity, score in entities.items():
            if score > best.get(entity, -math.inf):
                best[entity] = score
    return best
