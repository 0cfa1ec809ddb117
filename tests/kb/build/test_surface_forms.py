"""Surface forms of rules in a knowledge base: what they count, beside links."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.kb.build import surface_forms
from insgenel_jax.kb.build.name_rules import FORM_RULES, read_name, rule_keys
from insgenel_jax.kb.build.tables import ENTITIES, FORMS, REDIRECTS, build_from_tables

# title, inlinks
PEOPLE = [("Ada Bird", 8), ("Ada Cole", 3), ("Bo Bird", 0), ("Gödel", 0)]
LINKS = [
    ("ada bird", "Ada Bird", 7),
    ("ada", "Ada Cole", 4),
    ("ada cole", "Ada Cole", 1),
    ("bo bird", "Bo Bird", 1),
    ("gödel", "Gödel", 1),
]


def build(path, rules, redirects=()):
    entities = [
        {"title": title, "description": "", "external_id": None, "inlinks": inlinks}
        for title, inlinks in PEOPLE
    ]
    links = [dict(zip(FORMS.names, link, strict=True)) for link in LINKS]
    names = [dict(zip(REDIRECTS.names, pair, strict=True)) for pair in redirects]
    build_from_tables(
        path,
        pa.Table.from_pylist(entities, schema=ENTITIES),
        pa.Table.from_pylist(links, schema=FORMS),
        pa.Table.from_pylist(names, schema=REDIRECTS),
        form_rules=rules,
    )
    return KnowledgeBase.open(path, verify=True)


def names(kb, surface):
    form = kb.form(surface)
    if form is None:
        return None
    entities, counts = kb.candidates(form)
    return dict(zip(map(kb.title, entities.tolist()), counts.tolist(), strict=True))


def test_pairs_of_rules_alone_share_less_than_a_link(tmp_path):
    kb = build(tmp_path / "kb", ["first_word", "last_word"])
    # 8 + 1 and 0 + 1 of 10 + 1: nothing but the rule gives these pairs
    birds = {"Ada Bird": 9 / 11, "Bo Bird": 1 / 11}
    assert names(kb, "Bird") == pytest.approx(birds)
    # a counted link keeps its count, and a rule's pair has less than one
    assert names(kb, "Ada") == pytest.approx({"Ada Cole": 4, "Ada Bird": 9 / 10})
    assert names(kb, "Cole")["Ada Cole"] < 1
    assert names(kb, "Ada Bird") == {"Ada Bird": 7}
    assert names(kb, "ab") is None
    assert tuple(kb.settings.form_rules) == ("first_word", "last_word")
    assert np.load(kb.path / "form_counts.npy").dtype == np.float32


def test_redirects_make_entities_known_and_their_names_make_forms(tmp_path):
    redirects = [("Robert Gull", "Bo Bird"), ("Rob Gull", "Bo Bird")]
    kb = build(tmp_path / "kb", ["last_word"], redirects)
    assert names(kb, "Bird") == pytest.approx({"Ada Bird": 9 / 13, "Bo Bird": 3 / 13})
    assert names(kb, "Gull") == pytest.approx({"Bo Bird": 3 / 4})


def test_without_rules_counts_are_whole(tmp_path):
    kb = build(tmp_path / "kb", [])
    assert names(kb, "Ada") == {"Ada Cole": 4} and names(kb, "Bird") is None
    assert kb.settings.form_rules == []
    assert np.load(kb.path / "form_counts.npy").dtype == np.uint8


def test_the_longest_form_is_found_in_texts(tmp_path):
    kb = build(tmp_path / "kb", ["title_inside"])
    assert kb.settings.longest_form == len("the ada bird")
    found = kb.matches("See The Ada Bird.")
    assert (4, 16) in zip(found.starts.tolist(), found.ends.tolist(), strict=True)


def test_pairs_against_brute_force_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(surface_forms, "_BATCH", 3)
    kb = build(tmp_path / "kb", FORM_RULES)
    expected = {(form, title) for form, title, _ in LINKS}
    for title, _ in PEOPLE:
        expected |= {(key, title) for key in rule_keys(read_name(title), FORM_RULES)}
    assert "godel" in {form for form, _ in expected}
    assert {(form, title) for form, _ in expected for title in names(kb, form)} == (
        expected
    )
    assert len(kb._base.entities) == len(expected)


def test_settings_of_older_knowledge_bases_open(tmp_path):
    kb = build(tmp_path / "kb", [])
    settings = dataclasses.asdict(kb.settings)
    del settings["form_rules"]
    assert type(kb.settings)(**settings).form_rules == ()
