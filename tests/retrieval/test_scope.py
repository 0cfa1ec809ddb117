"""Which windows' entities a mention may take, against the definition."""

import types

import numpy as np
import pytest

from insgenel_jax.retrieval.scope import retrieve

# four words a window, two a stride: every word is its own entity, found with its place
TEXTS = ["w0 w1 w2 w3 w4 w5 w6 w7. w8 w9", "w10 w11", "   "]
PLACES = [(0, (0, 24)), (0, (25, 30)), (1, (0, 7)), (2, (0, 3))]


def embed(texts):
    return np.array([[int(w.strip("w.")) for w in t.split()][:1] for t in texts])


def search(queries, k):
    ids = queries.astype(np.int32) + np.arange(k, dtype=np.int32)
    return ids, (100 * queries - np.arange(k)).astype(np.float32)


@pytest.mark.parametrize(
    ("scope", "place", "span", "expected"),
    [
        ("window", 0, (0, 2), {0, 1, 2}),  # w0: only the window w0-w3
        ("window", 0, (6, 8), {0, 1, 2, 3, 4}),  # w2: also the window w2-w5
        ("chunk", 0, (0, 2), {0, 1, 2, 3, 4, 5, 6}),
        ("document", 0, (0, 2), {0, 1, 2, 3, 4, 5, 6, 8, 9, 10}),
        ("document", 1, (25, 27), {0, 1, 2, 3, 4, 5, 6, 8, 9, 10}),
        ("chunk", 1, (25, 27), {8, 9, 10}),
        ("document", 2, (0, 3), {10, 11, 12}),
        ("document", 3, (0, 1), set()),
    ],
)
def test_scopes(scope, place, span, expected):
    retriever = types.SimpleNamespace(window_length=4, stride=2, embed_windows=embed)
    index = types.SimpleNamespace(search=search)
    lookups = retrieve(retriever, index, TEXTS, PLACES, top_k=3, scope=scope)
    assert len(lookups) == len(PLACES)
    assert set(lookups[place](*span)) == expected


def test_the_best_score_is_kept():
    retriever = types.SimpleNamespace(window_length=4, stride=2, embed_windows=embed)
    index = types.SimpleNamespace(search=search)
    (lookup,) = retrieve(retriever, index, TEXTS, PLACES[:1], top_k=3, scope="chunk")
    assert lookup(0, 2)[2] == 200.0  # first of its own window, third of w0's


def test_no_text_no_windows():
    index = types.SimpleNamespace(search=None)
    retriever = types.SimpleNamespace(window_length=4, stride=2)
    (lookup,) = retrieve(
        retriever, index, ["  "], [(0, (0, 2))], top_k=3, scope="chunk"
    )
    assert lookup(0, 1) == {}
