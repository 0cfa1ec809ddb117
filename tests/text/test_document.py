"""JSON gives back the document; a bad field is named; normalising keeps offsets."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insgenel_jax.text.document import (
    WORD,
    Candidate,
    Document,
    Mention,
    document_from_json,
    dumps,
    loads,
    normalise,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def documents(draw):
    text = draw(TEXTS)
    mentions = []
    if text:
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(text) - 1))
            candidate = st.builds(
                Candidate, TEXTS, st.floats(allow_nan=False, allow_infinity=False)
            )
            mentions.append(
                Mention(
                    start,
                    draw(st.integers(start + 1, len(text))),
                    draw(st.none() | TEXTS),
                    draw(st.none() | TEXTS),
                    draw(st.none() | st.floats(0, 1)),
                    tuple(draw(st.lists(candidate, max_size=2))),
                    draw(st.none() | st.floats(0, 1)),
                )
            )
    return Document(draw(TEXTS), text, draw(st.none() | TEXTS), tuple(mentions))


@given(documents())
def test_json_is_one_line_and_gives_the_document_back(document):
    line = dumps(document)
    assert "\n" not in line
    assert loads(line) == loads(line.encode()) == document


def test_absent_fields_are_left_out_but_never_the_entity():
    record = json.loads(dumps(Document("1", "Ada", None, (Mention(0, 3, None),))))
    mention = {"start": 0, "end": 3, "entity": None}
    assert record == {"id": "1", "text": "Ada", "mentions": [mention]}


def test_lenient_forms_are_read():
    record = {"id": 7, "text": "Ada", "mentions": None, "unknown": 1}
    assert document_from_json(record) == Document("7", "Ada")


@pytest.mark.parametrize(
    "line",
    [
        '{"id": 7, "text": "Ada", "mentions": [], "year": 1843, "tags": ["a", null]}',
        '{"id": -7, "text": "", "mentions": [], "more": {"id": {"text": 1.5}}}',
        '{"id": "7", "text": "Ada", "mentions": [], "half": "\\ud800"}',
    ],
)
def test_other_fields_and_integer_ids_come_back(line):
    document = loads(line)
    assert dumps(document).encode() and json.loads(dumps(document)) == json.loads(line)
    renamed = dataclasses.replace(document, id="x7")
    assert json.loads(dumps(renamed))["id"] == "x7"
    assert renamed == loads(dumps(renamed))


def test_fields_nested_too_deep_to_be_written_are_refused():
    deep = {"id": "1", "text": "", "x": json.loads("[" * 100 + "]" * 100)}
    with pytest.raises(ValueError, match="at most 100 deep"):
        document_from_json(deep)
    assert dumps(document_from_json(deep | {"x": deep["x"][0]}))


GOOD = {"start": 0, "end": 2, "entity": "E"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": None}, "id"),
        ({"id": True}, "id"),
        ({"id": "\ud800"}, "id: a lone surrogate at character 0"),
        ({"mentions": [GOOD | {"entity": "\ud800"}]}, r"mentions\[0\].entity: a lone"),
        ({"text": 3}, "text"),
        ({"text": "a\ud800"}, "text: a lone surrogate at character 1"),
        ({"title": 3}, "title"),
        ({"mentions": {}}, "mentions"),
        ({"mentions": [3]}, r"mentions\[0\]"),
        ({"mentions": [GOOD, GOOD | {"end": 5}]}, r"mentions\[1\].*<= 4.*\(0, 5\)"),
        ({"mentions": [GOOD | {"start": 2}]}, "start"),
        ({"mentions": [GOOD | {"start": -1}]}, "start"),
        ({"mentions": [GOOD | {"start": False}]}, "start"),
        ({"mentions": [{"start": 0, "end": 1}]}, "entity"),
        ({"mentions": [GOOD | {"entity": 3}]}, "entity"),
        ({"mentions": [GOOD | {"external_id": []}]}, "external_id"),
        ({"mentions": [GOOD | {"score": "1"}]}, "score"),
        ({"mentions": [GOOD | {"score": float("nan")}]}, "score"),
        ({"mentions": [GOOD | {"score": float("-inf")}]}, "score"),
        ({"mentions": [GOOD | {"score": 10**400}]}, "score: expected a number"),
        (
            {"mentions": [GOOD | {"candidates": [{"entity": "E", "score": 10**400}]}]},
            r"mentions\[0\].candidates: expected",
        ),
        ({"mentions": [GOOD | {"candidates": [{"entity": "E"}]}]}, "candidates"),
        ({"mentions": [GOOD | {"no_mention": "1"}]}, r"mentions\[0\].no_mention"),
        (
            {"mentions": [GOOD | {"candidates": [{"entity": "\ud800", "score": 1}]}]},
            "candidates: a lone surrogate",
        ),
    ],
)
def test_a_bad_field_is_named(change, field):
    with pytest.raises(ValueError, match=field):
        document_from_json({"id": "1", "text": "text"} | change)


@given(st.text(max_size=40))
def test_normalise_keeps_every_offset_and_leaves_no_boundary(text):
    out = normalise(text)
    assert len(out) == len(text)
    assert not set(out) & set("{}[]\n\r\t\x85\xa0\u2028")
    assert normalise(out) == out
    assert [m.span() for m in WORD.finditer(out)] == [
        m.span() for m in WORD.finditer(text)
    ]


def test_words_have_letters_marks_and_digits():
    words = WORD.findall("Zo\u0308e's U-2 naïve_x 東京 ३")
    assert words == ["Zo\u0308e", "s", "U", "2", "naïve", "x", "東京", "३"]
