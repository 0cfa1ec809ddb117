"""Spaces before punctuation: the text that is read, and the way back."""

import dataclasses

import numpy as np
import pytest

from insgenel_jax.linker import Linker
from insgenel_jax.linker.spacing import original, space_documents, space_punctuation
from insgenel_jax.text.document import Document


def test_punctuation_is_spaced():
    spaced, places = space_punctuation("(He's in St. Ives) , U.S., yes!\n.")
    assert spaced == "(He's in St . Ives ) , U.S. , yes !\n."
    assert len(places) == len(spaced)


@pytest.mark.parametrize("seed", range(20))
def test_every_span_comes_back(seed):
    rng = np.random.default_rng(seed)
    text = "".join(rng.choice(list("aé .,!-('\u0301\n"), 30))
    spaced, places = space_punctuation(text)
    assert [c for c in spaced if c != " "] == [c for c in text if c != " "]
    spans = [(i, j) for i in range(len(text)) for j in range(i + 1, len(text) + 1)]
    (document,), (moved,) = space_documents([Document("1", text)], [spans])
    assert document.text == spaced
    assert [original(places, *span) for span in moved] == spans
    for (i, j), (start, end) in zip(spans, moved, strict=True):
        inside = spaced[start:end]
        assert (inside[0], inside[-1]) == (text[i], text[j - 1])


def test_links_stand_in_the_original_text(linker_path):
    """Spaces that the text has already change nothing."""
    linker = Linker.from_pretrained(linker_path, mention_bias=3.0)
    spaced = linker.with_settings(punctuation="spaced")
    text = "In Paris,Jordan met Apollo;Mercury did not."
    (found,) = spaced([text])
    assert found.text == text and len(found.mentions) > 2
    there = linker(space_punctuation(text)[0])
    words = [(text[m.start : m.end], m.entity, m.score) for m in found.mentions]
    assert words == [
        (there.text[m.start : m.end], m.entity, m.score) for m in there.mentions
    ]
    spans = [(m.start, m.end) for m in found.mentions]
    given = spaced(text, mentions=spans)
    assert [(m.start, m.end) for m in given.mentions] == spans
    assert all(m.entity for m in given.mentions)
    assert {
        (c.start, c.end) for c in spaced.candidates([Document("1", text)])[0]
    } >= set(spans)
    explained = {
        (x.mention.start, x.mention.end) for x in spaced.explain(text) if x.linked
    }
    assert explained == set(spans)
    assert dataclasses.replace(found, mentions=()) == Document(found.id, text)
