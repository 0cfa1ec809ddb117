"""The spaCy component against the linker itself."""

from __future__ import annotations

import dataclasses

import pytest

spacy = pytest.importorskip("spacy")

from spacy.tokens import Doc, Span

from insgenel_jax import mini_world
from insgenel_jax.linker import Linker
from insgenel_jax.serving import spacy_component  # noqa: F401 (spaCy finds it by name)
from insgenel_jax.text.document import document_to_json

SETTINGS = {"system": "insgenel", "mention_bias": 4.0, "length_bias": 4.0}
TEXT = "We saw Michael Jordan in Paris. 🎉 Mercury-like planets, and Java."


def make(linker_path, **config):
    nlp = spacy.blank("en")
    settings = SETTINGS | config.pop("settings", {})
    config = {"linker": str(linker_path), "settings": settings, **config}
    nlp.add_pipe("insgenel", config=config)
    return nlp


@pytest.fixture(scope="module")
def nlp(linker_path):
    return make(linker_path)


@pytest.fixture(scope="module")
def linker(linker_path):
    return Linker.from_pretrained(linker_path, other_candidates=5, **SETTINGS)


def expected(linker, text, **more):
    return document_to_json(linker(text, **more))["mentions"]


def test_entities_and_links(nlp, linker):
    doc = nlp(TEXT)
    links = expected(linker, TEXT)
    assert doc._.links == links and links
    assert any("candidates" in link for link in links)
    by_place = {
        (link["start"], link["end"]): link.get("external_id", link["entity"])
        for link in links
    }
    for entity in doc.ents:
        assert entity.label_ == "ENTITY"
        assert entity.kb_id_ in by_place.values()
        place = (entity.start_char, entity.end_char)
        assert by_place.get(place, entity.kb_id_) == entity.kb_id_
    assert len(doc.ents) == len(links)


def test_only_the_entities_that_the_document_has(linker_path, linker):
    nlp = make(linker_path, given=True)
    doc = nlp.make_doc(TEXT)
    paris, we = doc.char_span(25, 30, label="GPE"), doc.char_span(0, 2, label="PRON")
    doc.ents = [paris, we]
    doc = nlp.get_pipe("insgenel")(doc)
    spans = [(0, 2), (25, 30)]
    assert doc._.links == expected(linker, TEXT, mentions=spans)
    assert [(e.text, e.label_) for e in doc.ents] == [("We", "PRON"), ("Paris", "GPE")]
    assert [bool(e.kb_id_) for e in doc.ents] == [False, True]


def test_other_entities_stay_where_nothing_is_linked(nlp):
    plain = nlp.make_doc(TEXT)
    linked = nlp(TEXT).ents[0]
    first = Span(plain, linked.start, linked.end, label="OWN")
    plain.ents = [first, Span(plain, 0, 1, label="PRON")]
    doc = nlp.get_pipe("insgenel")(plain)
    labels = {e.text: e.label_ for e in doc.ents}
    assert labels["We"] == "PRON" and labels[linked.text] == "OWN"
    assert {e.text for e in doc.ents if e.kb_id_} == {e.text for e in nlp(TEXT).ents}


def test_a_link_within_a_token_takes_the_whole_token(nlp):
    component = nlp.get_pipe("insgenel")
    doc = nlp.make_doc("unParis")
    document = component.linker("Paris")
    moved = tuple(
        dataclasses.replace(m, start=m.start + 2, end=m.end + 2)
        for m in document.mentions
    )
    component._annotate(doc, dataclasses.replace(document, mentions=moved))
    assert [e.text for e in doc.ents] == ["unParis"] * len(moved)
    assert [link["start"] for link in doc._.links] == [2] * len(moved)


def test_a_document_with_links_round_trips(nlp):
    doc = nlp(TEXT)
    again = Doc(nlp.vocab).from_bytes(doc.to_bytes())
    assert again._.links == doc._.links
    places = [(e.start, e.end, e.label_, e.kb_id_) for e in doc.ents]
    assert [(e.start, e.end, e.label_, e.kb_id_) for e in again.ents] == places


@pytest.mark.slow
def test_pipe_equals_the_linker_over_200_documents(nlp, linker):
    texts = [d.text for d in mini_world.paragraphs("heldout", 200)] + ["", "\n"]
    docs = list(nlp.pipe(texts, batch_size=32))
    for doc, document in zip(docs, linker(texts), strict=True):
        links = document_to_json(document)["mentions"]
        assert len(doc._.links) == len(links)
        for found, link in zip(doc._.links, links, strict=True):
            assert found.pop("score") == pytest.approx(link.pop("score"), abs=1e-5)
            assert found["entity"] == link["entity"]
            assert (found["start"], found["end"]) == (link["start"], link["end"])
    assert sum(len(doc._.links) for doc in docs) > 200


def test_the_configuration_of_a_pipeline_is_kept(nlp, tmp_path):
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    assert again(TEXT)._.links == nlp(TEXT)._.links
