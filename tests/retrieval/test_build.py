"""The index of a knowledge base, made by one call; windows that recall is tried on."""

import dataclasses

import numpy as np
import pytest

from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.retrieval.build import index_entities, sample_windows, share_found
from insgenel_jax.retrieval.retriever import Retriever
from insgenel_jax.text.formats.rejects import Rejects
from tests.helpers.retrievers import write_retriever


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    path = tmp_path_factory.mktemp("kb") / "kb"
    entities = [
        (Entity("Mercury (planet)", "The smallest planet " + "of many " * 20), []),
        (Entity("Queen", "A band of Freddie Mercury"), []),
        (Entity("York", ""), []),
    ]
    build_from_entities(path, entities, Rejects())
    return KnowledgeBase.open(path)


def test_the_index_finds_what_the_two_encoders_say(kb, tmp_path):
    retriever, steps = Retriever.load(write_retriever(tmp_path / "retriever")), []
    out = tmp_path / "new folder" / "index"
    indexed = index_entities(
        kb, retriever, out, made_from={"a": "b"}, tell=steps.append
    )
    index = indexed.index
    assert (index.entities, index.dim, index.method) == (3, 24, "exact")
    assert index.made_from == {"a": "b"} and len(steps) == 2
    assert indexed.embedding_seconds > 0 and indexed.building_seconds > 0
    assert list(out.parent.iterdir()) == [out]  # nothing left beside it
    queries = retriever.embed_windows(["the planet", "queen of york"])
    entities = np.asarray(retriever.embed_entities(kb)).astype(np.float32)
    ids, _ = index.search(queries, 3)
    assert ids.tolist() == (-queries @ entities.T).argsort(1).tolist()
    titles = retriever.embed_windows([kb.title(i) for i in range(3)])
    nearest = (titles @ entities.T).argmax(1).tolist()
    hits = sum(row == i for i, row in enumerate(nearest))
    assert share_found(kb, retriever, index, top_k=1) == hits / 3
    assert indexed.found == 1  # as many are retrieved as there are


def test_bytes_of_a_vector(kb, tmp_path):
    retriever = Retriever.load(write_retriever(tmp_path / "retriever"))
    indexed = index_entities(
        kb, retriever, tmp_path / "i", made_from={}, vector_bytes=3
    )
    # three embeddings span three dimensions, so nothing but rounding is lost
    assert indexed.index.method == "compressed" and indexed.index.recall == 1
    broken = dataclasses.replace(retriever, params={})  # that is said before any work
    with pytest.raises(ValueError, match="vector bytes: expected 1 to 24"):
        index_entities(kb, broken, tmp_path / "i", made_from={}, vector_bytes=25)


def test_sample_windows(kb):
    texts = sample_windows(kb, 5, 10)
    assert sorted(texts) == ["A band of Freddie Mercury", "The smallest planet of many"]
    assert len(sample_windows(kb, 5, 1)) == 1


def test_sample_windows_without_descriptions(tmp_path):
    """Other names of an entity, which the retriever reads in place of a description."""
    entities = [(Entity("Queen", ""), ["The Queen of Rock"]), (Entity("York", ""), [])]
    build_from_entities(tmp_path / "kb", entities, Rejects())
    kb = KnowledgeBase.open(tmp_path / "kb")
    assert sample_windows(kb, 100, 10) == ["the queen of rock."]
