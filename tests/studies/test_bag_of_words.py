"""Bags of words: what is counted, and the score, by hand."""

import numpy as np
import pytest

from insgenel_jax.studies.bag_of_words import collect_bags, words_around
from insgenel_jax.text.document import Document, Mention

ENTITIES = {"Jaguar": 3, "Jaguar Cars": 7, "Zoo": 9}


def document(text, *golds):
    mentions = [
        Mention(text.index(surface), text.index(surface) + len(surface), entity)
        for surface, entity in golds
    ]
    return Document("1", text, mentions=tuple(mentions))


def test_the_words_around_a_mention():
    text = "The Cat and the big cats: a JAGUAR, wild eyes, Zoo"
    start = text.index("JAGUAR")
    words = words_around(text, start, start + 6)
    assert words == ["cat", "big", "cats", "wild", "eyes", "zoo"]  # no stop words
    # "cats" and "a" before it, "wild" and "eyes" after it
    assert words_around(text, start, start + 6, window=2) == ["cats", "wild", "eyes"]


def test_scores_by_hand():
    documents = [
        document("wild jaguar wild", ("jaguar", "Jaguar")),
        document("red jaguar wild", ("jaguar", "Jaguar Cars"), ("red", None)),
        document("red wild jaguar", ("jaguar", "Unheard Of"), ("wild", "Zoo")),
    ]
    bags = collect_bags(documents, ENTITIES.get, {3, 7})
    assert bags.rows == {3: 0, 7: 1}
    assert bags.columns == {"red": 0, "wild": 1}
    assert bags.counts.toarray().tolist() == [[0, 2], [1, 1]]
    # p(red) = 1/4, p(wild) = 3/4; with smoothing 2 they add 1/2 and 3/2 to each bag
    found = bags.score(["red", "blue", "wild"], np.array([7, 3]), smoothing=2.0)
    red, wild = np.log([1.5 / 4 * 4, 0.5 / 4 * 4]), np.log([2.5 / 3, 3.5 / 3])
    np.testing.assert_allclose(found, (red + wild) / 2)
    assert bags.score(["blue"], np.array([7, 3])).tolist() == [0, 0]


def test_an_entity_without_links():
    documents = [document("wild jaguar wild", ("jaguar", "Jaguar"))]
    bags = collect_bags(documents, ENTITIES.get, {3, 7})
    assert bags.score(["wild"], np.array([7])) == pytest.approx(0)
    none = collect_bags([], ENTITIES.get, {3, 7})
    assert none.score(["wild"], np.array([3, 7])).tolist() == [0, 0]
