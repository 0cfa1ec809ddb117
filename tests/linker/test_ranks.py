"""Ranks of wanted entities, against a search of every window by hand."""

import numpy as np
import pytest

from insgenel_jax import mini_world
from insgenel_jax.linker import Linker
from insgenel_jax.linker.ranks import rank_entities
from insgenel_jax.text import chunking
from insgenel_jax.text.document import Document


def test_ranks_against_every_window(linker_path):
    linker = Linker.from_pretrained(linker_path)
    retriever, index = linker.retriever, linker.index
    documents = [
        Document("1", "\n".join(p.text for p in mini_world.paragraphs("dev", 4)))
    ]
    text, k = documents[0].text, 5
    spans = chunking.windows(text, retriever.window_length, retriever.stride)
    assert len(spans) > 2
    vectors = retriever.embed_windows([text[a:b] for a, b in spans])
    found, _ = index.search(np.asarray(vectors), k)
    start, end = spans[1]
    middle = (start + end) // 2
    places = [(middle, middle + 3, entity) for entity in range(len(linker.kb))]
    touching = [
        row.tolist()
        for (a, b), row in zip(spans, found, strict=True)
        if a < middle + 3 and middle < b
    ]
    expected = [
        min((row.index(e) + 1 for row in touching if e in row), default=None)
        for _, _, e in places
    ]
    assert set(expected) >= {1, None}
    assert rank_entities(linker, documents, [places], k) == [expected]
    assert rank_entities(linker, [Document("2", "")], [[(0, 0, 1)]], k) == [[None]]
    alone = Linker.from_pretrained(linker_path, system="insgenel")
    with pytest.raises(ValueError, match="a retriever"):
        rank_entities(alone, documents, [places], k)
