"""ELEVANT's rules, a hand-made case each; and its own results, exactly."""

import json

import pytest

from insgenel_jax.evaluation.elevant import (
    count_article,
    expand,
    is_coreference,
    score_articles,
    score_documents,
)
from insgenel_jax.evaluation.scoring import make_resolve
from insgenel_jax.text.document import Document, Mention
from insgenel_jax.text.formats.elevant import Article, Label, Link, read_articles
from insgenel_jax.text.formats.rejects import Rejects

TEXT = "Ann met Bob in New York, his city, and saw the Kings play it"
WHOLE = (0, len(TEXT))
NIL, NO_MAPPING = "<NIL>", "<NO_MAPPING>"


def at(words):
    start = TEXT.index(words)
    return start, start + len(words)


def label(number, words, entity_id, **fields):
    return Label(number, *at(words), entity_id, **fields)


def links(**by_words):
    """Links from words to ids; an underscore stands for a space."""
    return tuple(Link(*at(w.replace("_", " ")), i) for w, i in by_words.items())


def count(labels, found, span=WHOLE):
    """(tp, fp, fn) of everything, and of detection."""
    counts = count_article(Article("a", TEXT, span, tuple(labels), tuple(found)))
    everything = [sum(n) for n in zip(counts["entity"], counts["coref"], strict=True)]
    return tuple(everything), tuple(counts["detection"])


def ann(entity_id="Q1", **fields):
    return label(0, "Ann", entity_id, **fields)


NESTED = [
    label(0, "New York", "Q60", children=(1, 2)),
    label(1, "New", "Q2", parent=0),
    label(2, "York", "Q3", parent=0),
]
READINGS = [ann("Q1", children=(1,)), label(1, "Ann", "Q2", parent=0)]
MEDIAL = [  # the root's only child is optional, and has a child that is not
    label(0, "New York, his city", "Q5", optional=True, children=(1,)),
    label(1, "New York", "Q60", optional=True, parent=0, children=(2,)),
    label(2, "New", "Q2", parent=1),
]


def optional(labels, number=0, **fields):
    """The labels with one of them made optional, or changed as said."""
    fields = fields or {"optional": True}
    changed = list(labels)
    old = changed[number]
    changed[number] = Label(
        **{f: fields.get(f, getattr(old, f)) for f in old.__dataclass_fields__}
    )
    return changed


@pytest.mark.parametrize(
    ("labels", "found", "everything", "detection"),
    [
        # (1) ids are compared
        ([ann()], links(Ann="Q1"), (1, 0, 0), (1, 0, 0)),
        ([ann()], links(Ann="Q2"), (0, 1, 1), (1, 0, 0)),
        ([ann()], (), (0, 0, 1), (0, 0, 1)),
        # (2) a prediction, or a label, that ends inside a word stands for the word
        ([ann()], links(An="Q1"), (1, 0, 0), (1, 0, 0)),
        ([label(0, "An", "Q1")], links(Ann="Q1"), (1, 0, 0), (1, 0, 0)),
        # the label's own span comes first
        ([label(0, "An", "Q1")], links(An="Q1", Ann="Q2"), (1, 0, 0), (1, 0, 0)),
        # an expanded prediction overwrites one that lies there already
        ([ann()], links(Ann="Q1", An="Q2"), (0, 1, 1), (1, 0, 0)),
        # the last prediction of a span wins; the other is no false positive
        ([ann()], [Link(0, 3, "Q2"), Link(0, 3, "Q1")], (1, 0, 0), (1, 0, 0)),
        ([ann()], [Link(0, 3, "Q1"), Link(0, 3, "Q2")], (0, 1, 1), (1, 0, 0)),
        ([], [Link(0, 3, "Q1"), Link(0, 3, "Q2")], (0, 1, 0), (0, 1, 0)),
        # one prediction may satisfy several labels
        ([ann(), label(1, "An", "Q1")], links(Ann="Q1"), (2, 0, 0), (2, 0, 0)),
        # (3) off all labels a false positive; overlap does not matter
        ([ann()], links(Ann="Q1", Bob="Q2"), (1, 1, 0), (1, 1, 0)),
        ([label(0, "New York", "Q60")], links(York="Q3"), (0, 1, 1), (0, 1, 1)),
        # (4) NIL is no prediction
        ([ann()], links(Ann=NIL), (0, 0, 1), (0, 0, 1)),
        ([ann()], links(Ann=NO_MAPPING), (0, 0, 1), (0, 0, 1)),
        ([], links(Ann=NIL, Bob=NO_MAPPING), (0, 0, 0), (0, 0, 0)),
        ([ann(NIL)], links(Ann=NIL), (0, 0, 0), (0, 0, 0)),
        ([ann(NIL)], (), (0, 0, 0), (0, 0, 0)),
        ([ann(NO_MAPPING)], links(Ann="Q1"), (0, 1, 0), (0, 1, 0)),
        # null claims an entity where a label is, and nothing elsewhere
        ([ann()], links(Ann=None), (0, 1, 1), (1, 0, 0)),
        ([], links(Ann=None), (0, 0, 0), (0, 0, 0)),
        # (5) optional: the same entity and none are neutral, another is wrong
        ([ann(optional=True)], links(Ann="Q1"), (0, 0, 0), (0, 0, 0)),
        ([ann(optional=True)], (), (0, 0, 0), (0, 0, 0)),
        ([ann(optional=True)], links(Ann=NIL), (0, 0, 0), (0, 0, 0)),
        ([ann(optional=True)], links(Ann="Q2"), (0, 1, 0), (0, 0, 0)),
        ([ann(NIL, optional=True)], links(Ann="Q2"), (0, 1, 0), (0, 1, 0)),
        # optional, with a child that is not: missed when nothing is found
        (optional(NESTED), (), (0, 0, 1), (0, 0, 1)),
        (optional(NESTED, entity_id=NIL, optional=True), (), (0, 0, 0), (0, 0, 0)),
        (optional(NESTED), links(New_York="Q60"), (0, 0, 0), (0, 0, 0)),
        (optional(NESTED), links(New="Q2", York="Q3"), (1, 0, 0), (1, 0, 0)),
        # (6) the root alone counts: found itself, or through all of its children
        (NESTED, (), (0, 0, 1), (0, 0, 1)),
        (NESTED, links(New_York="Q60"), (1, 0, 0), (1, 0, 0)),
        (NESTED, links(New="Q2", York="Q3"), (1, 0, 0), (1, 0, 0)),
        (NESTED, links(New="Q2"), (0, 0, 1), (0, 0, 1)),
        (NESTED, links(New="Q2", York="Q9"), (0, 1, 1), (1, 0, 0)),
        # the root is right: what its children have is not looked at
        (NESTED, links(New_York="Q60", York="Q9"), (1, 0, 0), (1, 0, 0)),
        (NESTED, links(New_York="Q60", New="Q9", York="Q3"), (1, 0, 0), (1, 0, 0)),
        # the root is wrong, and no child is right
        (NESTED, links(New_York="Q9", York="Q9"), (0, 1, 1), (1, 0, 0)),
        # two readings of one span
        (READINGS, links(Ann="Q1"), (1, 0, 0), (1, 0, 0)),
        (READINGS, links(Ann="Q2"), (1, 0, 0), (1, 0, 0)),
        (READINGS, links(Ann="Q9"), (0, 1, 1), (1, 0, 0)),
        # an optional child that is missing does no harm, a wrong one does
        (optional(NESTED, 1), links(York="Q3"), (1, 0, 0), (1, 0, 0)),
        (optional(NESTED, 1), links(New="Q9", York="Q3"), (0, 1, 0), (1, 0, 0)),
        # an unknown root counts through its children
        (optional(NESTED, entity_id=NIL), links(New="Q2"), (0, 0, 1), (0, 0, 1)),
        (optional(NESTED, 1, entity_id=NIL), links(York="Q3"), (1, 0, 0), (1, 0, 0)),
        # any depth
        (MEDIAL, links(New="Q2"), (1, 0, 0), (1, 0, 0)),
        (MEDIAL, links(New="Q9"), (0, 1, 0), (1, 0, 0)),
        # (7) detection leaves coreference out
        ([label(0, "his", "Q1")], links(his="Q1"), (1, 0, 0), (0, 0, 0)),
        ([label(0, "his", "Q1", coref=False)], (), (0, 0, 1), (0, 0, 1)),
        ([ann(coref=True)], links(Ann="Q2"), (0, 1, 1), (0, 0, 0)),
        ([], links(his_city="Q1"), (0, 1, 0), (0, 0, 0)),
        ([], links(the_Kings="Q1"), (0, 1, 0), (0, 1, 0)),
    ],
)
def test_rules(labels, found, everything, detection):
    assert count(labels, found) == (everything, detection)


@pytest.mark.parametrize(
    ("span", "everything"),
    [((0, 11), (0, 1, 1)), ((8, 11), (0, 1, 1)), ((0, 10), (0, 0, 1)), ((9, 20), 0)],
)
def test_the_evaluation_span_filters_predictions_alone(span, everything):
    # (3) "Bob" is a false positive wherever it lies wholly inside; "Ann" always counts
    counted, _ = count([ann()], links(Bob="Q2"), span)
    assert counted == (everything or (0, 0, 1))


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        ("one two", (1, 2), (0, 3)),
        ("a rock'n'roll_1 b", (4, 5), (2, 15)),
        ("a-b c", (0, 1), (0, 1)),
        # the last character of the text is not reached from before it
        ("one two", (4, 5), (4, 6)),
        ("one two", (4, 7), (4, 7)),
        # a quotation mark at the start is left out where it is alone
        ('a "b c" d', (3, 4), (3, 4)),
        ('a "b" d', (3, 4), (2, 5)),
        ("a b ", (4, 4), (4, 4)),
        ("", (0, 0), (0, 0)),
    ],
)
def test_spans_grow_to_words(text, span, expected):
    assert expand(span, text) == expected


def test_coreferences():
    for mention in ("she", "It", "his", "the city", "Those days", "Our region"):
        assert is_coreference(mention), mention
    for mention in ("US", "Ann", "the Kings", "The Who", "some city", "the"):
        assert not is_coreference(mention), mention


def test_a_child_listed_twice_belongs_to_its_parent():
    # "York" lists the child of "New" too. It decides for "York" only where "New", its
    # parent, leaves the decision to it.
    labels = [
        label(0, "New York", "Q60", children=(1, 2)),
        label(1, "New", "Q2", parent=0, children=(3,)),
        label(2, "York", "Q3", parent=0, children=(3,)),
        label(3, "New", "Q4", parent=1),
    ]
    assert count(labels, links(New="Q4")) == ((1, 0, 0), (1, 0, 0))
    assert count(labels, links(New="Q2")) == ((0, 0, 1), (0, 0, 1))


def test_documents_are_paired_and_added():
    one = Article("1", TEXT, WHOLE, (ann(),), links(Ann="Q1", his="Q2"))
    two = Article("2", TEXT, WHOLE, (ann(),))
    scores = score_articles([one, two], [two, one])
    assert scores.all == (1, 1, 1) and scores.documents == 2
    assert scores.entity == (1, 0, 1) and scores.coref == (0, 1, 0)
    assert scores.detection == (1, 0, 1)
    assert scores.per_document.tolist() == [[1, 1, 0], [0, 0, 1]]
    with pytest.raises(ValueError, match=r"1 \('2'\) missing"):
        score_articles([one, two], [one])
    assert score_articles([], []).all == (0, 0, 0)


def test_documents_are_scored_by_the_same_rules():
    def document(name, *mentions):
        return Document(name, TEXT, mentions=tuple(Mention(*m) for m in mentions))

    gold = [
        document("1", (0, 3, "Ann Lee", "Q1"), (8, 11, None), (*at("his"), "Bob Hope")),
        document("2"),
    ]
    predicted = [
        # an id, a NIL that was linked, a title that ends inside the word
        document("1", (0, 2, "Annie", "Q1"), (8, 11, "Bob Dylan"), (25, 27, "Hope")),
        document("2", (*at("Kings"), "Kings")),
    ]
    resolve = make_resolve({"Hope": "Bob Hope"})
    scores = score_documents(gold, predicted, resolve)
    assert scores.counts == (2, 2, 0)
    assert scores.per_document.tolist() == [[2, 1, 0], [0, 1, 0]]
    assert (scores.documents, scores.golds, scores.predictions) == (2, 2, 4)
    assert scores.micro == pytest.approx((1 / 2, 1, 2 / 3))
    assert scores.macro == pytest.approx((1 / 3, 1 / 2, 2 / 5))
    # "his" is a coreference
    assert scores.detection == pytest.approx((1 / 3, 1, 1 / 2))
    assert scores.accuracy == 1
    wrong = score_documents(gold, predicted)  # nothing leads from "Hope" to "Bob Hope"
    assert wrong.counts == (1, 3, 1)
    assert score_documents([], []).micro == (1, 1, 1)


@pytest.mark.slow
def test_results_of_elevant_exactly(data):
    results = data / "elevant" / "results"
    files = sorted(results.glob("*.linked_articles.jsonl"))
    assert len(files) == 10
    for file in files:
        name = file.name.removesuffix(".linked_articles.jsonl")
        benchmark = f"{name.rpartition('.')[2]}.benchmark.jsonl"
        rejects = Rejects()
        gold = list(read_articles(data / "elevant/benchmarks" / benchmark, rejects))
        scores = score_articles(gold, list(read_articles(file, rejects)))
        assert rejects.count == 0
        record = json.loads((results / f"{name}.eval_results.json").read_text())
        types = record["IGNORED"]["mention_types"]
        expected = {kind: types[kind] for kind in ("all", "entity", "coref")}
        expected["detection"] = record["IGNORED"]["error_categories"]["ner"]
        for kind, theirs in expected.items():
            fields = ("true_positives", "false_positives", "false_negatives")
            counts = tuple(theirs[field] for field in fields)
            assert getattr(scores, kind) == counts, (name, kind)
