"""What candidate mentions know of their surface forms, and which entities they keep."""

import dataclasses
import functools
import math

import numpy as np
import pytest

from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.entity_scores import EntityScores
from insgenel_jax.linker.mentions import (
    DocumentMentions,
    equally_likely,
    find_candidates,
    find_mentions,
    limit,
    rank,
)
from insgenel_jax.linker.settings import Settings
from insgenel_jax.retrieval.exact import search_exact
from insgenel_jax.retrieval.index import Index, build_index
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.retrieval.scope import Retrieved
from insgenel_jax.text import chunking
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers.retrievers import WORDS, write_retriever

LABELLED = [
    Document("1", "Paris and Paris", None, (Mention(0, 5, "Paris"),)),
    Document("2", "Paris, Texas", None, ()),
    Document("3", "Paris", None, ()),
]


def find(tmp_path, documents, given):
    entities = [(Entity("Paris"), []), (Entity("Paris, Texas"), [])]
    build_from_entities(tmp_path / "kb", entities, Rejects(), documents=documents)
    kb = KnowledgeBase.open(tmp_path / "kb")
    settings = Settings(system="insgenel")
    (found,) = find_mentions(kb, None, None, ["in Paris, Texas"], given, settings)
    return {(c.start, c.end): c for c in found.candidates}


@pytest.mark.parametrize("given", [None, [[(3, 8), (3, 15), (0, 2)]]])
def test_link_counts_reach_the_candidate_mentions(tmp_path, given):
    """Whether the dictionary finds the span or the caller gives it."""
    found = find(tmp_path, LABELLED, given)
    assert {span: (c.linked, c.seen) for span, c in found.items()} == {
        (3, 8): (1, 3),
        (3, 15): (0, 1),
    }
    # logit(3/8), logit(1/4)
    assert found[3, 8].link_log_odds == pytest.approx(math.log(3 / 5))
    assert found[3, 15].link_log_odds == pytest.approx(math.log(1 / 3))


def test_without_link_counts_nothing_speaks_for_or_against(tmp_path):
    """A knowledge base made without documents; a given span unknown to it."""
    found = find(tmp_path, [], None)
    unknown = equally_likely(np.array([0, 1], np.int32))
    assert len(found) == 2
    for candidate in (*found.values(), unknown):
        assert (candidate.linked, candidate.seen) == (0, 0)
        assert candidate.link_log_odds == 0
        assert candidate.link_probability == 1


# the scores of the entities by number in the two windows of "John and John", and so
# their vectors
SCORES = np.array(
    [[0.5, 3.0, 0.0, -2.0, 5.0, -1.0, 0.75, 1.0], [0.25, -1, 2, 0, 6, 0.5, 0.375, -3]],
    np.float32,
)
# what the windows retrieve with top_k=3
FOUND = Retrieved(
    np.array([0, 9]),
    np.array([8, 13]),
    np.array([[4, 1, 7], [2, 5, 4]], np.int32),
    np.array([[5.0, 3.0, 1.0], [2.0, 0.5, 6.0]], np.float32),
    np.eye(2, dtype=np.float32),
)
INDEX = Index(
    entities=8,
    dim=2,
    method="exact",
    recall=1.0,
    made_from={},
    search_rows=functools.partial(search_exact, SCORES.T),
    read_vectors=lambda: SCORES.T,
)


@pytest.fixture(scope="module")
def johns(tmp_path_factory):
    """Six entities of one name, the lower the more frequent: counts 9, 8 ... 4."""
    path = tmp_path_factory.mktemp("johns") / "kb"
    entities = [(Entity(f"John {i}"), []) for i in range(6)]
    documents = [
        Document("", "John", None, (Mention(0, 4, f"John {i}"),))
        for i in range(6)
        for _ in range(9 - i)
    ]
    build_from_entities(path, entities, Rejects(), documents=documents)
    return KnowledgeBase.open(path)


def allowed(kb, scope="window", **settings):
    """The candidate mentions of "John and John" with FOUND, or with INSGENEL."""
    settings = Settings(scope=scope, **settings)
    spans = [(0, 4, kb.form("John")), (9, 13, kb.form("John"))]
    found = None if settings.system == "insgenel" else FOUND
    mentions = DocumentMentions(
        find_candidates(kb, spans, found, True, False, settings),
        found,
        INDEX,
        scope,
        settings.retrieval,
        settings.max_candidates,
    )
    return mentions.allowed_in((0, 13), mentions.candidates)


def log_softmax(values):
    values = np.array(values, float)
    return values - np.log(np.exp(values).sum())


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"system": "insgenel"}, ["012345", "012345"]),
        ({"system": "insgenel", "max_candidates": 2}, ["01", "01"]),
        ({"system": "insgenel", "max_candidates": 99}, ["012345", "012345"]),
        ({}, ["14", "245"]),
        # the limit counts those retrieved at the place, not those of the document
        ({"max_candidates": 1}, ["1", "2"]),
        ({"max_candidates": 2}, ["14", "24"]),
        ({"scope": "document", "max_candidates": 3}, ["124", "124"]),
        ({"retrieval": "rank"}, ["012345", "012345"]),
        ({"retrieval": "rank", "max_candidates": 1}, ["014", "0245"]),
        ({"retrieval": "rank", "max_candidates": 3}, ["0124", "01245"]),
    ],
)
def test_which_entities_are_kept(johns, settings, expected):
    found = allowed(johns, **settings)
    assert ["".join(map(str, c.entities.tolist())) for c in found] == expected
    for candidate in found:
        counts = 9 - candidate.entities
        assert np.allclose(candidate.log_prior, np.log(counts / counts.sum()))
        assert (candidate.linked, candidate.seen) == (39, 39)


def test_rank_weighs_by_the_retriever(johns):
    """Each entity by its own score, best over the windows, retrieved or not."""
    both = SCORES.max(0)
    for settings, expected in (
        ({}, [SCORES[0, :6], SCORES[1, :6]]),
        ({"max_candidates": 3}, [SCORES[0, [0, 1, 2, 4]], SCORES[1, [0, 1, 2, 4, 5]]]),
        ({"scope": "chunk"}, [both[:6]] * 2),
        ({"scope": "document"}, [both[:6]] * 2),
        ({"scope": "document", "max_candidates": 1}, [both[[0, 1, 2, 4, 5]]] * 2),
    ):
        found = allowed(johns, retrieval="rank", **settings)
        for candidate, scores in zip(found, expected, strict=True):
            assert candidate.retriever_scores.tolist() == scores.tolist()
            assert np.allclose(candidate.log_retriever, log_softmax(scores))
    limited = allowed(johns)
    assert np.allclose(limited[0].log_retriever, log_softmax([3, 5]))


@pytest.mark.parametrize("scope, rows", [("chunk", [0]), ("document", [0, 1])])
def test_which_windows_count_in_a_chunk(johns, scope, rows):
    """The chunk is the first John alone, which the second window does not touch."""
    settings = Settings(retrieval="rank")
    spans = [(0, 4, johns.form("John"))]
    found = find_candidates(johns, spans, FOUND, True, False, settings)
    mentions = DocumentMentions(found, FOUND, INDEX, scope, "rank")
    (candidate,) = mentions.allowed_in((0, 5), found)
    best = SCORES[rows].max(0)[:6]
    assert candidate.retriever_scores.tolist() == best.tolist()
    assert mentions.allowed_in((0, 5), []) == []


@pytest.mark.parametrize("scope", ["window", "chunk", "document"])
def test_rank_against_the_embeddings(johns, tmp_path, scope):
    """Of a text of many windows, and three chunks; by the definition."""
    retriever = Retriever.load(write_retriever(tmp_path / "retriever"))
    retriever = dataclasses.replace(retriever, window_length=6, stride=3)
    embeddings = np.asarray(retriever.embed_entities(johns))
    index = build_index(embeddings, tmp_path / "index", made_from={})
    words = np.random.default_rng(0).choice([*WORDS, "John", "John"], 40)
    text = " ".join(words)
    settings = Settings(retrieval="rank", scope=scope, top_k=2)
    (found,) = find_mentions(johns, retriever, index, [text], None, settings)
    assert len(found.candidates) == text.count("John") > 3
    windows = chunking.windows(text, 6, 3)
    vectors = retriever.embed_windows([text[slice(*span)] for span in windows])
    for chunk in ((0, 60), (60, 150), (150, len(text))):
        inside = [
            c for c in found.candidates if chunk[0] <= c.start and c.end <= chunk[1]
        ]
        for candidate in found.allowed_in(chunk, inside):
            start, end = {
                "window": (candidate.start, candidate.end),
                "chunk": chunk,
                "document": (0, len(text)),
            }[scope]
            touching = [
                vector
                for vector, (first, last) in zip(vectors, windows, strict=True)
                if first < end and start < last
            ]
            for entity, score in zip(
                candidate.entities, candidate.retriever_scores, strict=True
            ):
                wanted = max(v @ embeddings[entity].astype(float) for v in touching)
                assert score == pytest.approx(wanted, rel=1e-5)


def test_rank_where_no_window_counts(johns):
    """Then all weigh the same; with "limit" nothing is allowed."""
    nothing = EntityScores(np.zeros(0, np.int32), np.zeros(0, np.float32))
    (candidate,) = allowed(johns, system="insgenel")[:1]
    mentions = DocumentMentions([candidate], FOUND, INDEX, "chunk", "rank", 2)
    (ranked,) = mentions.allowed_in((20, 30), [candidate])
    assert ranked.entities.tolist() == [0, 1]
    assert np.allclose(ranked.log_retriever, log_softmax([0, 0]))
    assert np.isnan(ranked.retriever_scores).all()
    assert limit(candidate, nothing, 2) is None


def test_a_given_span_that_is_no_form_takes_what_is_retrieved(johns):
    settings = Settings(max_candidates=2)
    (found,) = find_candidates(johns, [(5, 8, None)], FOUND, False, False, settings)
    assert found.entities.tolist() == [4, 1, 2, 7, 5] and not found.optional
    assert limit(found, FOUND.touching(0, 13), 2).entities.tolist() == [4, 1]
    scores = SCORES[1, found.entities]
    ranked = rank(found, FOUND.touching(9, 13), scores, 2)
    assert ranked.entities.tolist() == [4, 1, 2, 5]
    assert ranked.retriever_scores.tolist() == [6, -1, 2, 0.5]
