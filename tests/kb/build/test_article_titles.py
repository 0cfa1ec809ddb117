"""Titles of articles from names of pages and targets of links."""

import pytest

from insgenel_jax.kb.build.article_titles import article_title


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("ada_Lovelace ", "Ada Lovelace"),
        ("ßeta", "ßeta"),
        ("éa", "Éa"),
        ("Star Trek: The Film", "Star Trek: The Film"),
        ("category talk:X", ""),
        (":Category:X", ""),
        ("de:Berlin", ""),
        ("De: Berlin", "De: Berlin"),
        ("https://example.org", ""),
        ("Ada (disambiguation)", ""),
        ("A  b\xa0c", "A b c"),
        ("", ""),
        ("#Part", "#Part"),
    ],
)
def test_article_title(name, title):
    assert article_title(name) == title
