"""The public API as a user's program calls it; read by mypy, never run."""

from collections.abc import Iterator
from typing import assert_type

from insgenel_jax import Document, KnowledgeBase, Linker, Mention


def open_a_linker(path: str) -> Linker:
    return Linker.from_pretrained(path, system="insgenel", threshold=0.5)


def link(linker: Linker) -> None:
    assert_type(linker("Paris"), Document)
    assert_type(linker(Document("1", "Paris")), Document)
    assert_type(linker(["Paris", "Java"]), list[Document])
    assert_type(linker([Document("1", "Paris")]), list[Document])
    assert_type(linker("Paris", mentions=[(0, 5)]), Document)
    assert_type(linker(["Paris"], mentions=[[(0, 5)]]), list[Document])
    assert_type(linker.stream([Document("1", "Paris")]), Iterator[Document])


def read_a_document(document: Document) -> None:
    assert_type(document.mentions, tuple[Mention, ...])
    for mention in document.mentions:
        assert_type(document.text[mention.start : mention.end], str)
        assert_type(mention.entity, str | None)
        assert_type(mention.external_id, str | None)
        assert_type(mention.score, float | None)
        for candidate in mention.candidates:
            assert_type(candidate.score, float)


def score(linker: Linker) -> None:
    (link,) = linker.score("Paris")
    assert_type(link.mention, Mention)
    ((one,), _) = linker.score(["Paris", "Java"])
    assert_type(one.mention, Mention)


def look_up(path: str) -> None:
    kb = KnowledgeBase.open(path, verify=True)
    assert_type(kb, KnowledgeBase)
    entity = kb.find("Paris")
    assert_type(entity, int | None)
    if entity is not None:
        assert_type(kb.title(entity), str)
        assert_type(kb.entity(entity).inlinks, int)
    assert_type(kb.find_external("Q90"), int | None)
