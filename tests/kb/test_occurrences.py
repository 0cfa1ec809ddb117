"""Which occurrences may be mentions, and what the parts of linked names mean."""

import pytest

from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.occurrences import (
    find_name_parts,
    find_occurrences,
    find_runs,
    inside_longer_run,
)
from insgenel_jax.text.formats.rejects import Rejects


@pytest.mark.parametrize(
    "text, runs",
    [
        ("he saw Paris Hilton in Rome", ["Paris Hilton", "Rome"]),
        ("by J. K. Rowling, J.R.R. Tolkien", ["J. K. Rowling", "J.R.R. Tolkien"]),
        ("the Bank of England", ["Bank", "England"]),
        ("the Anglo-Saxon O'Brien at AT&T", ["Anglo-Saxon O'Brien", "AT&T"]),
        # of a sentence's first word: no stop word begins a run, another word does
        ("In Paris. The New York Times.", ["Paris", "New York Times"]),
        ("he met Will Smith", ["Will Smith"]),
        ("“The Hague” Yesterday", ["Hague", "Yesterday"]),
        ("Yesterday Paris", ["Yesterday Paris"]),
        ("in\nParis\nHilton", ["Paris", "Hilton"]),
        ("with Gen. Grant, Boeing 747", ["Gen", "Grant", "Boeing"]),
        ("ǅungla Ürümqi 東京 iPhone McDonald", ["ǅungla Ürümqi", "McDonald"]),
        ("The", []),
        ("", []),
    ],
)
def test_runs(text, runs):
    assert [text[start:end] for start, end in find_runs(text)] == runs


def test_what_lies_inside_a_longer_run():
    """Against every span of a text and every run of it."""
    text = "a Paris Hilton of New York-Rome"
    runs = [(2, 14), (18, 31)]
    assert find_runs(text) == runs
    spans = [(s, e) for s in range(len(text)) for e in range(s + 1, len(text) + 1)]
    inside = inside_longer_run(text, *zip(*spans, strict=True))
    assert inside.tolist() == [
        any(
            s >= first and e <= last and (s, e) != (first, last) for first, last in runs
        )
        for s, e in spans
    ]
    assert inside_longer_run("no run", [0, 3], [2, 6]).tolist() == [False, False]
    assert inside_longer_run("", [], []).tolist() == []


TEXT = "Ann Lee and Bob Ray. Ann saw Ray, Lee Park, Lee."
ANN, BOB = (0, 7, 5), (12, 19, 6)


def parts(*names, taken=(), how="override", run="any"):
    found = find_name_parts(TEXT, names, taken, how, run)
    return [(TEXT[start:end], start, entity) for start, end, entity in found]


def test_parts_of_names():
    everything = [("Ann", 21, 5), ("Ray", 29, 6), ("Lee", 34, 5), ("Lee", 44, 5)]
    assert parts(BOB, ANN) == everything
    assert parts(ANN, BOB, how="new") == everything
    assert parts(ANN, BOB, how="off") == parts() == []
    # a name counts from its place on; a name of one word has no parts
    assert parts((34, 42, 7)) == [("Lee", 44, 7)]
    assert parts((0, 3, 5)) == []


def test_a_part_of_two_entities_is_nobodys():
    assert parts(ANN, (34, 42, 7)) == [("Ann", 21, 5)]
    assert parts(ANN, (34, 42, 5))[1:] == [("Lee", 34, 5), ("Lee", 44, 5)]


def test_only_new_ones_keep_clear_of_what_is_taken():
    taken = [(0, 7), (12, 19), (21, 24), (34, 42), (47, 48)]
    assert len(parts(ANN, BOB, taken=taken)) == 4
    assert parts(ANN, BOB, taken=taken, how="new") == [("Ray", 29, 6), ("Lee", 44, 5)]
    spans = [(s, s + n) for s in range(len(TEXT)) for n in range(1, 9)]
    for span in spans:
        new = parts(ANN, BOB, taken=[span, (0, 1)], how="new")
        clear = [
            p for p in parts(ANN, BOB) if not span[0] < p[1] + 3 or p[1] >= span[1]
        ]
        assert new == clear


def test_parts_are_whole_runs_where_mentions_are():
    found = parts(ANN, BOB, run="whole")
    assert found == [("Ann", 21, 5), ("Ray", 29, 6), ("Lee", 44, 5)]


def test_substrings(tmp_path):
    """Every place of every form, in any case, also inside words: by brute force."""
    names = ("Ann", "An", "Ann Lee", "lee")
    build_from_entities(tmp_path / "kb", [(Entity(n), ()) for n in names], Rejects())
    kb = KnowledgeBase.open(tmp_path / "kb")
    text = "Joann Leeds, Annlee: an Ann"
    expected = sorted(
        (i, i + len(name))
        for name in names
        for i in range(len(text))
        if text[i : i + len(name)].lower() == name.lower()
    )
    starts, ends, forms = kb.substring_matches(text)
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == expected
    assert [kb.form(text[i:j]) for i, j in expected] == forms.tolist()
    found = find_occurrences(kb, text, "substrings")
    kept = [(i, j) for i, j in expected if text[i:j].lower() != "an"]  # a stop word
    assert list(zip(found.starts.tolist(), found.ends.tolist(), strict=True)) == kept
