"""Titles to URIs and back; what other tools write in URIs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insgenel_jax.text.formats.names import (
    decode_title,
    id_of_uri,
    title_of_uri,
    uri_of_id,
    uri_of_title,
)

TITLES = st.text(st.characters(exclude_categories=["Cs"]))


@given(TITLES)
def test_a_title_comes_back(title):
    uri = uri_of_title(title)
    assert title_of_uri(uri) == title
    assert not set(uri) & set(' <>"{}|\\^`\n\x00#')


@pytest.mark.parametrize(
    ("uri", "title"),
    [
        ("http://dbpedia.org/resource/New_York_City", "New York City"),
        ("https://en.wikipedia.org/wiki/New%20York_City", "New York City"),
        ("http://dbpedia.org/resource/S%C3%A3o_Paulo#Mayor", "São Paulo"),
        ("http://en.dbpedia.org/page/AC/DC", "AC/DC"),
        ("http://dbpedia.org/resource/100%_Wolf", "100% Wolf"),
        ("http://dbpedia.org/resource/%E9t%E9", "%E9t%E9"),  # no UTF-8
        ("http://de.dbpedia.org/resource/Lohn", None),
        ("http://aksw.org/notInWiki/Lohn", None),
    ],
)
def test_titles_of_other_tools(uri, title):
    assert title_of_uri(uri) == title


def test_ids():
    assert id_of_uri("http://www.wikidata.org/entity/Q60") == "Q60"
    assert id_of_uri("https://www.wikidata.org/wiki/Q60") == "Q60"
    assert id_of_uri("http://www.wikidata.org/entity/P60") is None
    assert id_of_uri(uri_of_id("Q7")) == "Q7" and uri_of_id("D003920") is None
    assert decode_title("Ann_%28band%29") == "Ann (band)"
