"""The surface forms that each rule makes of a title."""

import pytest

from insgenel_jax.kb.build.name_rules import FORM_RULES, read_name, rule_keys

CASES = [
    ("first_word", "Ada Lovelace", "ada"),
    ("first_word", "Ada_Lovelace_(poet)", "ada"),
    ("first_word", "Paris, Texas", ""),  # one word, without the comma part
    ("first_word", "The Beatles", ""),
    ("first_word", "13 Rivers", ""),
    ("first_word", "J. B. Priestley", ""),
    ("first_word", "J.-P. Ray", ""),
    ("first_word", "Xi Bird", "xi"),
    ("last_word", "Ada Lovelace", "lovelace"),
    ("last_word", "Ada Lovelace (film), 1990", "lovelace"),
    ("last_word", "Ada Bird Jr.", "bird"),
    ("last_word", "Ada II", "ada"),
    ("last_word", "Apollo 13", ""),
    ("last_word", "Malcolm X", "malcolm"),
    ("last_word", "Lovelace", ""),
    ("words", "Ada Bird Trust", "ada bird|bird trust"),
    ("words", "Ada Bird", ""),
    ("words", "King of the Hill", ""),  # "king of", "of the hill" and so on
    ("words", "Philip II of Spain", "philip ii"),
    ("words", "Star Wars: A Hope", "star wars|wars: a hope"),
    ("words", "J. B. Priestley", ""),
    ("first_word", '"Weird Al" Yankovic', "weird"),
    ("first_word", '"The Man" Bird', ""),
    ("last_word", "Ada “Bo”", "bo"),
    ("words", '"Weird Al" Yankovic', "weird al|al yankovic"),
    ("words", 'Ada "Bo" Bird Trust', 'ada bo|ada "bo" bird|bo bird trust|bird trust'),
    ("acronym", "Department of Energy", "de|doe"),
    ("acronym", "department of energy", "de|doe"),
    ("acronym", "Energy", ""),
    ("acronym", "Jean-Luc Ray", "jlr"),
    ("acronym", "Los Angeles (city), 2", "la"),
    ("demonym", "Spain", "spanish|spaniard|spaniards"),
    ("demonym", "spain", "spanish|spaniard|spaniards"),
    ("demonym", "Georgia (country)", "georgian|georgians"),
    ("demonym", "Georgia (U.S. state)", ""),
    ("title_inside", "Beatles", "the beatles|beatles'"),
    ("title_inside", "The Beatles", "the beatles'"),
    ("title_inside", "Ada (poet)", "the ada|ada's"),
    ("ascii", "Kurt Gödel", "kurt godel"),
    ("ascii", "Straße", "strasse"),
    ("ascii", "Łódź, Poland", "lodz, poland|lodz poland|lodz"),
    ("ascii", "J. D. Ray", "j d ray|jd ray"),
    ("ascii", "Rock & Roll-Man", "rock and roll man"),
    ("ascii", "Plain Name", ""),
    ("ascii", "Москва", ""),
]


def keys(title, *rules, description=""):
    return rule_keys(read_name(title, description), rules)


@pytest.mark.parametrize("rule, title, expected", CASES)
def test_a_rule(rule, title, expected):
    assert keys(title, rule) == set(filter(None, expected.split("|")))


def test_parts_have_at_most_six_words():
    longest = max(keys("Aa bb cc dd ee ff gg hh", "words"), key=len)
    assert longest in ("aa bb cc dd ee ff", "cc dd ee ff gg hh")


def test_roles_come_from_numerals_and_descriptions():
    assert {"king philip", "pope philip ii"} < keys("Philip II of Spain", "roles")
    assert not keys("Philip II Airport", "roles")
    lead = "The 3rd president and a general."
    assert keys("Ada Lovelace", "roles", description=lead) == {
        "president lovelace",
        "president ada lovelace",
        "general lovelace",
        "general ada lovelace",
    }
    assert not keys("Ada Lovelace", "roles", description="A generalist" + " x" * 99)


def test_forms_of_other_rules_are_spelled_in_ascii_too():
    assert keys("Kurt Gödel", "last_word") == {"gödel"}
    assert keys("Kurt Gödel", "last_word", "ascii") == {
        "gödel",
        "godel",
        "kurt godel",
    }


@pytest.mark.parametrize(
    "title", ["", " ", "()", "(a b)", ".", ", ", "\ud800", "_", "-", "! (poet)"]
)
def test_titles_without_a_letter_or_digit_make_nothing(title):
    assert not keys(title, *FORM_RULES, description="A president.")


def test_lone_surrogates_and_long_titles_raise_nothing():
    assert keys("\ud800da Bird", *FORM_RULES) >= {"bird"}
    assert all(len(key) <= 200 for key in keys("Ab " * 100, *FORM_RULES))
