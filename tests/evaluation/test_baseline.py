"""The prior-only baseline against a scan word by word."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax.evaluation.baseline import PriorLinker, explain
from insgenel_jax.kb import Entity, KnowledgeBase
from insgenel_jax.kb.build.entity_list import build_from_entities
from insgenel_jax.kb.occurrences import stop_words
from insgenel_jax.linker.calibrator import Calibrator, Term
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.rejects import Rejects

# surface form -> entity, for those linked more often than any other of that form
MOST_FREQUENT = {
    "york": "York",
    "new york": "New York City",
    "new york times": "The Times",
    "new": "New (album)",
    "us": "United States",
    "green": "Green (colour)",
    "times": "The Times",
}


def linked(text, start, entity):
    return Document("", text, None, (Mention(start, len(text), entity),))


@pytest.fixture(scope="module")
def kb(tmp_path_factory):
    entities = [
        (Entity("York", "", "Q1"), []),
        (Entity("York (ship)"), []),
        (Entity("New York City", "", "Q60"), ["New York"]),
        (Entity("The Times"), ["New York Times", "Times"]),
        (Entity("New (album)"), []),
        (Entity("United States"), ["US"]),
        (Entity("Green (colour)"), []),
        (Entity("Green (surname)"), []),
    ]
    documents = [
        linked("to York", 3, "York"),
        *[linked("a green", 2, "Green (colour)")] * 2,
        linked("is Green", 3, "Green (surname)"),
        linked("the Times", 4, "The Times"),
        # seen without a link: "york" linked in 1 of 4, "times" in 1 of 2
        *[Document("", "York", None, ())] * 2,
        Document("", "old times", None, ()),
        Document("", "new york", None, ()),
    ]
    path = tmp_path_factory.mktemp("kb") / "kb"
    build_from_entities(path, entities, Rejects(), documents=documents)
    return KnowledgeBase.open(path)


def links(linker, text):
    (document,) = linker([Document("1", text, None, (Mention(0, 1, "label"),))])
    assert (document.id, document.text) == ("1", text)
    return [(text[m.start : m.end], m.entity) for m in document.mentions]


def test_longest_match_and_most_frequent_entity(kb):
    text = "New York Times of New York, york; green."
    assert links(PriorLinker(kb), text) == [
        ("New York Times", "The Times"),
        ("New York", "New York City"),
        ("york", "York"),
        ("green", "Green (colour)"),
    ]
    (document,) = PriorLinker(kb)([Document("1", "in York")])
    assert document.mentions == (Mention(3, 7, "York", "Q1", 2 / 3),)
    assert links(PriorLinker(kb), "") == links(PriorLinker(kb), "nobody") == []


def test_case_rule(kb):
    capitalised = PriorLinker(kb, "capitalised")
    assert links(capitalised, "new York Green green") == [
        ("York", "York"),
        ("Green", "Green (colour)"),
    ]
    with pytest.raises(ValueError, match="case"):
        PriorLinker(kb, "upper")


def test_stop_words_and_cut_off(kb):
    assert "us" in stop_words() and "new" in stop_words()
    assert links(PriorLinker(kb), "us Us US new New") == [("US", "United States")]
    probability = float(kb.link_probability([kb.form("Times")])[0])
    assert probability == 0.5
    assert links(PriorLinker(kb, "any", 0.5), "times") == [("times", "The Times")]
    assert links(PriorLinker(kb, "any", 0.51), "times") == []
    # a longer match below the cut-off leaves room for the shorter one
    assert links(PriorLinker(kb, "any", 0.2), "new york") == [("york", "York")]


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(
        st.sampled_from(["New", "new", "York", "york", "Times", "times", "US", "x"]),
        max_size=9,
    ),
    case=st.sampled_from(["any", "capitalised"]),
    cut_off=st.sampled_from([0.0, 0.2, 0.3, 0.6]),
)
def test_against_a_scan_word_by_word(kb, words, case, cut_off):
    expected, i = [], 0
    while i < len(words):
        for n in (3, 2, 1):
            surface = " ".join(words[i : i + n])
            passes = (
                len(words) >= i + n
                and surface.lower() in MOST_FREQUENT
                and surface[0].lower() + surface[1:] not in stop_words()
                and (case == "any" or surface[0].isupper())
                and kb.link_probability([kb.form(surface)])[0] >= cut_off
            )
            if passes:
                expected.append((surface, MOST_FREQUENT[surface.lower()]))
                i += n
                break
        else:
            i += 1
    assert links(PriorLinker(kb, case, cut_off), " ".join(words)) == expected


def test_what_link_counts_tell_of_a_link(kb):
    text = "old Times of green York"
    (document,) = PriorLinker(kb)([Document("1", text)])
    times, green, york = (link.features for link in explain(kb, document))
    assert (times.documents_linked, times.documents_seen) == (1, 2)
    assert times.candidates == 1 and times.link_probability == 0.5
    assert times.prior == 0 and math.isnan(times.prior_margin)
    # "green": three links of the colour, two of the surname, their titles included
    assert green.candidates == 2 and green.prior == pytest.approx(math.log(3 / 5))
    assert green.prior_margin == pytest.approx(math.log(3 / 2))
    assert math.isnan(york.open) and math.isnan(york.retriever)


def test_a_calibrator_scores_the_links(kb):
    """Its threshold is on these scores."""
    weigh = Calibrator({"prior": Term(0.0, 1.0, 2.0, 0.0)}, 2.0)
    linker = PriorLinker(kb, calibrator=weigh, threshold=0.74)
    text = "Times, green, York"
    (document,) = linker([Document("1", text)])
    # p of "York" itself is 2/3; "green" has a score of 0.73
    odds = {"Times": math.e**2, "York": (math.e * 2 / 3) ** 2}
    assert {text[m.start : m.end]: m.score for m in document.mentions} == {
        surface: pytest.approx(o / (1 + o)) for surface, o in odds.items()
    }


def test_whole_runs_alone(kb):
    whole = PriorLinker(kb, capitalised_run="whole")
    text = "in York Minster, York, New York and Times of New York"
    assert links(PriorLinker(kb), text)[0] == ("York", "York")
    assert links(whole, text) == links(PriorLinker(kb), text)[1:]
    with pytest.raises(ValueError, match="capitalised_run: expected one of"):
        PriorLinker(kb, capitalised_run="all")


def test_parts_of_names_linked_before(kb):
    """ "York" is a part of "New York", and has an entity of its own."""
    text = "York, New York; York, york. Timers"
    off, new, override = (
        links(PriorLinker(kb, name_parts=how), text)
        for how in ("off", "new", "override")
    )
    york, city = ("York", "York"), ("New York", "New York City")
    assert off == new == [york, city, york, ("york", "York")]
    assert override == [york, city, ("York", "New York City"), ("york", "York")]
    with pytest.raises(ValueError, match="name_parts: expected one of"):
        PriorLinker(kb, name_parts="on")


def test_threshold(kb):
    text = "York, Times, New York; York"
    (document,) = PriorLinker(kb)([Document("1", text)])
    scores = [m.score for m in document.mentions]
    assert scores[0] == scores[3] == 2 / 3 and min(scores[1:3]) == 1
    assert links(PriorLinker(kb, threshold=0.7), text) == [
        ("Times", "The Times"),
        ("New York", "New York City"),
    ]
    # a part of a name is sure
    parts = PriorLinker(kb, name_parts="override", threshold=0.7)
    assert links(parts, text)[2:] == [("York", "New York City")]


def test_a_name_below_the_threshold_lends_its_parts(tmp_path):
    entities = [(Entity("Ann Lee"), []), (Entity("Ann Lee (ship)"), [])]
    build_from_entities(tmp_path / "kb", entities, Rejects())
    linker = PriorLinker(
        KnowledgeBase.open(tmp_path / "kb"), name_parts="new", threshold=0.7
    )
    assert links(linker, "Ann Lee and Lee") == [("Lee", "Ann Lee")]
