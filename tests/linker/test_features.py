"""The numbers of links that a calibrator reads, worked out by hand."""

import math

import numpy as np
import pytest

from insgenel_jax.linker.features import (
    NAMES,
    Features,
    ScoredLink,
    describe,
    prior_margin,
)
from insgenel_jax.text.document import Mention

TEXT = "Ann met BOB. Then Ann Lee and bob met Ann. (Ann left.)"


def link(surface, entity, *, after=0, linked=True, **known):
    start = TEXT.index(surface, after)
    unknown = Features(*[math.nan] * len(Features._fields))
    features = unknown._replace(
        documents_linked=0, documents_seen=0, candidates=1, **known
    )
    mention = Mention(start, start + len(surface), entity)
    return ScoredLink(mention, linked, features)


def column(name, links):
    return describe(TEXT, links)[:, NAMES.index(name)].tolist()


def test_numbers_of_a_generator_and_of_counts():
    probability = math.log(0.8)
    one = link("Ann", "A", open=0.0, span=0.0, title=probability, prior=-30.0)
    one = one._replace(
        features=one.features._replace(
            documents_linked=3, documents_seen=4, link_probability=0.75, candidates=2
        )
    )
    numbers = dict(zip(NAMES, describe(TEXT, [one])[0].tolist(), strict=True))
    assert numbers["title"] == probability
    assert numbers["score"] == pytest.approx(math.log(0.8 / 0.2))
    assert numbers["prior"] == -20  # the least
    assert numbers["link_probability"] == 0.75
    assert numbers["link_log_odds"] == pytest.approx(math.log(3.5 / 1.5))
    assert numbers["log_linked"] == math.log(4) and numbers["log_seen"] == math.log(5)
    assert numbers["log_candidates"] == math.log(2)
    assert math.isnan(numbers["retriever"]) and math.isnan(numbers["prior_margin"])


def test_a_certain_link_has_finite_numbers():
    certain, hopeless = (
        link("Ann", "A", open=log, span=0.0, title=0.0) for log in (0.0, -1e6)
    )
    assert column("score", [certain, hopeless]) == [20, -20]
    assert column("open", [certain, hopeless]) == [0, -20]
    # nothing is known of a form that no document has
    assert np.isnan(column("link_log_odds", [certain])).all()


def test_the_text_around():
    links = [
        link("Ann", "A"),
        link("BOB", "B"),
        link("Ann", "A", after=8),
        link("Ann Lee", "C"),
        link("bob", "B"),
        link("Ann", "A", after=40),
    ]
    assert column("inside_run", links) == [0, 0, 1, 0, 0, 0]
    assert column("sentence_start", links) == [1, 0, 0, 0, 0, 1]
    assert column("capitalised", links) == [1, 1, 1, 1, 0, 1]
    assert column("all_capitals", links) == [0, 1, 0, 0, 0, 0]
    assert column("log_words", links) == [0, 0, 0, math.log(2), 0, 0]
    assert column("log_characters", links)[3] == math.log(7)


def test_links_before():
    """A link that was not taken counts for none after it, nor an overlapping one."""
    first = link("Ann", "A")
    passed_over = link("BOB", "B", linked=False)
    links = [
        first,
        passed_over,
        link("Ann", "D", after=8),
        link("Ann Lee", "A"),
        link("bob", "B"),
        link("Ann", "D", after=40),
    ]
    assert column("surface_before", links) == [0, 0, 1, 0, 0, 1]
    assert column("entity_before", links) == [0, 0, 0, 1, 0, 1]
    assert column("linked", links) == [1, 0, 1, 1, 1, 1]
    # the order in which they come does not matter
    rows = describe(TEXT, links)
    np.testing.assert_array_equal(describe(TEXT, links[::-1]), rows[::-1])


def test_where_a_link_begins_and_ends():
    """A link that touches the end of another comes after it, one that overlaps not."""
    first, touching, overlapping = (
        link("Ann", "A")._replace(mention=Mention(start, start + 3, "A"))
        for start in (0, 3, 2)
    )
    assert column("entity_before", [first, touching]) == [0, 1]
    assert column("entity_before", [first, overlapping]) == [0, 0]


def test_no_links_and_the_margin_of_the_prior():
    assert describe(TEXT, []).shape == (0, len(NAMES))
    log_prior = np.log([0.5, 0.3, 0.2])
    margins = [prior_margin(log_prior, np.array([row])) for row in range(3)]
    expected = np.log([0.5 / 0.3, 0.3 / 0.5, 0.2 / 0.5])
    np.testing.assert_allclose(margins, expected)
    assert math.isnan(prior_margin(log_prior[:1], np.array([0])))
    assert math.isnan(prior_margin(log_prior, np.array([], int)))


def test_the_title_and_nested_places():
    text = "Bob of York, New York, in ada lovelace (house), york."
    unknown = Features(*[math.nan] * len(Features._fields))
    known = unknown._replace(
        documents_linked=0, documents_seen=0, candidates=1, popularity=7
    )

    def rows(*pairs):
        links = []
        for surface, entity in pairs:
            start = text.index(surface)
            mention = Mention(start, start + len(surface), entity)
            links.append(ScoredLink(mention, True, known))
        table = describe(text, links)
        return {name: table[:, i].tolist() for i, name in enumerate(NAMES)}

    numbers = rows(
        ("York", "York"),
        ("New York", "New York (state)"),
        ("ada lovelace", "Ada Lovelace"),
        ("Bob", None),
    )
    assert numbers["same_title"] == [1, 0, 0, 0]
    assert numbers["same_name"] == [1, 1, 1, 0]
    assert numbers["parenthesis"] == [0, 1, 0, 0]
    assert numbers["after_comma"] == [0, 1, 0, 0]
    assert numbers["before_comma"] == [1, 0, 0, 0]
    assert numbers["last_word_lower"] == [0, 0, 1, 0]
    assert numbers["log_popularity"] == [math.log(8)] * 4
