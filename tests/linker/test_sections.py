"""Sections tile a document and cut no given mention; links are at their places."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insgenel_jax.linker import Linker, decide, sections
from insgenel_jax.text.document import Document, Mention

WORDS = st.sampled_from(["Paris", "a", "is", "Java. ", " ", "\n", "unbroken" * 5])


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(sections, "LONGEST", 40)
    monkeypatch.setattr(sections, "TOGETHER", 100)


@given(st.lists(WORDS, max_size=40), st.lists(st.tuples(*[st.integers(0, 200)] * 2)))
def test_sections_tile_a_document(words, pairs):
    text = "".join(words)
    spans = sorted({(a, b) for a, b in pairs if a < b <= len(text)})
    document = Document("1", text)
    for own in (None, spans):
        found = list(sections.cut_document(7, document, own))
        assert "".join(section.document.text for section in found) == text
        places = []
        for section in found:
            end = section.start + len(section.document.text)
            assert text[section.start : end] == section.document.text
            at, inside = section.start, section.given or ()
            places += [(s + at, e + at) for s, e in inside]
            if own is None:
                assert len(section.document.text) <= 40
        assert sorted(places) == (spans if own else [])
    (section,) = sections.cut_document(0, Document("1", "short"), None)
    assert section.document.id == "1"


def test_a_long_text_is_linked_as_its_sections_are(linker_path):
    linker = Linker.from_pretrained(linker_path, mention_bias=1000.0)
    text = "Paris is a city. Java, they say, is not. " * 8 + "Mercury"
    whole = linker.score(text)
    found = list(sections.cut_document(0, Document("1", text), None))
    assert len(found) > 8
    expected = [
        dataclasses.replace(
            link.mention,
            start=link.mention.start + section.start,
            end=link.mention.end + section.start,
        )
        for section in found
        for link in linker.score(section.document.text)
    ]
    places = [(m.start, m.end, m.entity) for m in expected]
    assert places and places == [
        (k.mention.start, k.mention.end, k.mention.entity) for k in whole
    ]
    spans = [(0, 5), (10, 200), (330, 335)]
    linked = linker(text, spans)
    assert [(m.start, m.end) for m in linked.mentions] == spans
    assert linker.stats["documents"] == len(found) + 2


def test_a_long_text_is_explained_and_searched_as_its_sections_are(
    linker_path, monkeypatch
):
    linker = Linker.from_pretrained(linker_path, mention_bias=1000.0)
    text = "Paris is a city. Java, they say, is not. " * 3 + "Mercury"
    document = Document("1", text)
    found = list(sections.cut_document(0, document, None))
    expected = [
        word.move(section.start)
        for section in found
        for word in linker.explain(section.document)
    ]
    candidates = [
        (m.start + section.start, m.end + section.start)
        for section in found
        for m in linker.candidates([section.document])[0]
    ]
    lengths = []

    def find_mentions(kb, retriever, index, texts, *rest):
        lengths.append(sum(map(len, texts)))
        return searched(kb, retriever, index, texts, *rest)

    searched = decide.find_mentions
    monkeypatch.setattr(decide, "find_mentions", find_mentions)
    assert linker.explain(document) == expected
    assert max(lengths) <= sections.LONGEST and text[expected[-1].start] == "M"
    _, of_text = linker.candidates([Document("0", "a"), document])
    assert [(m.start, m.end) for m in of_text] == candidates
    assert max(lengths) <= sections.TOGETHER < len(text)
    spans = [(0, 5), (len(text) - 7, len(text))]
    given = [Mention(*span, None) for span in spans]
    (of_text,) = linker.candidates(
        [dataclasses.replace(document, mentions=tuple(given))], given=True
    )
    assert [(m.start, m.end) for m in of_text] == spans
