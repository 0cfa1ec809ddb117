"""What holds for the output of every linker, and when two outputs are the same."""

import dataclasses

import pytest

from insgenel_jax.linker import Linker
from insgenel_jax.text.document import Document


def check(linker: Linker, document: Document) -> None:
    """Assert that mentions are in order, do not overlap, and have allowed entities."""
    (candidates,) = linker.candidates([document])
    allowed = {(c.start, c.end): c.entities.tolist() for c in candidates}
    last_end = 0
    for mention in document.mentions:
        assert last_end <= mention.start < mention.end <= len(document.text)
        last_end = mention.end
        entity = linker.kb.find(mention.entity)
        assert linker.kb.title(entity) == mention.entity
        assert mention.external_id == linker.kb.external_id(entity)
        assert entity in allowed[mention.start, mention.end]
        form = linker.kb.form(document.text[mention.start : mention.end])
        assert entity in linker.kb.candidates(form)[0]
        assert 0 < mention.score <= 1


def same(a: Document, b: Document) -> None:
    """Assert that two documents have the same links, with scores within 1e-5."""
    assert (a.id, a.text, len(a.mentions)) == (b.id, b.text, len(b.mentions))
    for one, other in zip(a.mentions, b.mentions, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert dataclasses.replace(one, score=None) == dataclasses.replace(
            other, score=None
        )
