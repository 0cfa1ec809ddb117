"""Labelled documents as training documents: which labels stay, under which title."""

import pytest

from insgenel_jax import artifact
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build import own_documents
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.build.training_documents import read_training_documents
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import InputError, Rejects


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    path = tmp_path_factory.mktemp("kb") / "kb"
    entities = [(Entity("Ada Lovelace"), ["Ada"]), (Entity("Bo"), [])]
    redirects = {"Countess of Lovelace": "Ada Lovelace"}
    build_from_entities(path, entities, Rejects(), redirects=redirects)
    return KnowledgeBase.open(path)


def test_labels_have_titles_of_the_knowledge_base(kb, tmp_path):
    text = "She, Ada Lovelace, met Bo."
    labels = (
        Mention(23, 25, "Bo", score=0.5),
        Mention(9, 17, "Bo"),  # inside the next one
        Mention(5, 17, "Countess_of_Lovelace"),
        Mention(0, 3, "ada Lovelace"),  # no surface form of hers
        Mention(19, 22, "Nobody"),
        Mention(18, 19, None),
    )
    documents = [Document("1", text, None, labels), Document("2", text)]
    counts = own_documents.write_own_documents(tmp_path / "train", documents, kb)
    (document,) = read_training_documents(tmp_path / "train")
    titles = [(m.start, m.end, m.entity) for m in document.mentions]
    ada = "Ada Lovelace"
    assert titles == [(0, 3, ada), (5, 17, ada), (23, 25, "Bo")]
    assert counts == {
        "training documents": 1,
        "labels": 3,
        own_documents.UNKNOWN: 1,
        own_documents.OVERLAPPING: 1,
        own_documents.NO_FORM: 1,
        own_documents.UNLABELLED: 1,
    }
    made_from = artifact.read(tmp_path / "train").made_from
    assert made_from == {"knowledge-base": kb.identity}


def test_documents_of_another_knowledge_base_are_an_error(kb, tmp_path):
    document = Document("1", "Bo", None, (Mention(0, 2, "Nobody"),))
    with pytest.raises(InputError, match="found none: give the knowledge base"):
        own_documents.write_own_documents(tmp_path / "train", [document], kb)
    assert list(tmp_path.iterdir()) == []
