"""Which windows' entities a mention may take, against the definition."""

import numpy as np
import pytest

from insgenel_jax.retrieval.index import Index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.retrieval.scope import retrieve
from insgenel_jax.tokenizer import WordPiece

TEXTS = ["w0 w1 w2 w3 w4 w5 w6 w7. w8 w9", "w10 w11", "   "]


class FirstWords(Retriever):
    """Embeds a window as the number of its first word."""

    def embed_windows(self, texts):
        first = [text.split()[0] for text in texts]
        return np.array([[int(word.strip("w."))] for word in first], np.float32)


# four words a window, two a stride
RETRIEVER = FirstWords(
    configs={},
    params={},
    tokenizer=WordPiece(1, 0, 0, 0, encode=lambda *_: None),
    window_length=4,
    stride=2,
    window_tokens=8,
    entity_tokens=8,
)


def search(queries, k):
    """A query finds the entity of its number and the k - 1 next."""
    ids = queries.astype(np.int32) + np.arange(k, dtype=np.int32)
    return ids, (100 * queries - np.arange(k)).astype(np.float32)


INDEX = Index(
    entities=20,
    dim=1,
    method="exact",
    recall=1.0,
    made_from={},
    search_rows=search,
    read_vectors=lambda: np.zeros((20, 1), np.float32),
)


@pytest.fixture
def retrieved():
    return retrieve(RETRIEVER, INDEX, TEXTS, top_k=3)


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        (0, (0, 2), {0, 1, 2}),  # w0: only the window w0-w3
        (0, (6, 8), {0, 1, 2, 3, 4}),  # w2: also the window w2-w5
        (0, (0, 24), {0, 1, 2, 3, 4, 5, 6, 7, 8}),  # w0-w7: all but w8-w9's own
        (0, (0, 30), {0, 1, 2, 3, 4, 5, 6, 7, 8}),
        (1, (0, 3), {10, 11, 12}),
        (2, (0, 3), set()),
    ],
)
def test_a_place_has_what_its_windows_found(retrieved, text, span, expected):
    found = retrieved[text].touching(*span)
    assert found.entities.tolist() == sorted(expected)
    windows = retrieved[text]
    for entity, score in zip(found.entities, found.scores, strict=True):
        touched = (windows.starts < span[1]) & (windows.ends > span[0])
        same = windows.entities[touched] == entity
        assert score == windows.scores[touched][same].max()


def test_the_best_score_is_kept(retrieved):
    found = retrieved[0].touching(0, 8)
    assert found.scores[2] == 200.0  # first of its own window, third of w0's


def test_each_window_keeps_its_vector(retrieved):
    assert retrieved[0].vectors[:, 0].tolist() == [0, 2, 4, 6]
    assert retrieved[0].vectors[retrieved[0].windows(12, 14), 0].tolist() == [2, 4]
    within = retrieved[0].within(12, 14)  # w4
    assert within.vectors[:, 0].tolist() == [2, 4]
    assert within.windows(0, 11) == slice(0, 1)  # w0-w3, which w2-w5 overlaps
    assert within.touching(18, 20).entities.tolist() == [4, 5, 6]


def test_no_text_no_windows():
    (found,) = retrieve(RETRIEVER, INDEX, ["  "], top_k=3)
    assert found.touching(0, 2).entities.tolist() == []
    assert found.vectors.shape == (0, 1)
