"""Scores against hand-computed cases and an oracle written from the rules."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax.evaluation.scoring import (
    Counts,
    compare,
    compare_means,
    estimate,
    fold_title,
    make_resolve,
    same_entity,
    score,
)
from insgenel_jax.text.document import Document, Mention

TEXT = "Ann met Bob in Rome and Bob left."


def document(*mentions, name="d", text=TEXT):
    return Document(name, text, mentions=tuple(Mention(*m) for m in mentions))


def counts(gold, predicted, **settings):
    return score([document(*gold)], [document(*predicted)], **settings).counts


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        # right, wrong entity, wrong span
        ([(0, 3, "A"), (8, 11, "B")], [(0, 3, "A"), (8, 11, "C")], (1, 1, 1)),
        ([(0, 3, "A")], [(0, 7, "A")], (0, 1, 1)),
        ([(4, 7, "A")], [(0, 7, "A")], (0, 1, 1)),
        # wrong and right on one span, in either order: a TP and a FP
        ([(0, 3, "A")], [(0, 3, "X"), (0, 3, "A")], (1, 1, 0)),
        ([(0, 3, "A")], [(0, 3, "A"), (0, 3, "X")], (1, 1, 0)),
        # a duplicate is a FP; two equal golds take a prediction each
        ([(0, 3, "A")], [(0, 3, "A"), (0, 3, "A")], (1, 1, 0)),
        ([(0, 3, "A"), (0, 3, "A")], [(0, 3, "A")], (1, 0, 1)),
        ([(0, 3, "A"), (0, 3, "A")], [(0, 3, "A"), (0, 3, "A")], (2, 0, 0)),
        # NIL: never a FN; in-KB prediction on it a FP; NIL prediction nothing
        ([(0, 3, None)], [], (0, 0, 0)),
        ([(0, 3, None)], [(0, 3, "A")], (0, 1, 0)),
        ([(0, 3, "A")], [(0, 3, None)], (0, 0, 1)),
        ([(0, 3, None)], [(0, 3, None)], (0, 0, 0)),
        # titles as titles are compared
        ([(0, 3, "ann_Lee")], [(0, 3, "Ann Lee")], (1, 0, 0)),
        # external ids
        ([(0, 3, "A", "Q1")], [(0, 3, "B", "Q1")], (1, 0, 0)),
        ([(0, 3, "A", "Q1")], [(0, 3, "A", "Q2")], (1, 0, 0)),
        ([(0, 3, "A", "Q1")], [(0, 3, "B", "Q2")], (0, 1, 1)),
        ([(0, 3, "A")], [(0, 3, "B")], (0, 1, 1)),
        # a NIL prediction with the right id is still filtered
        ([(0, 3, "A", "Q1")], [(0, 3, None, "Q1")], (0, 0, 1)),
    ],
)
def test_counts(gold, predicted, expected):
    assert counts(gold, predicted) == Counts(*expected)


def test_redirects_are_followed_on_both_sides():
    same = same_entity(make_resolve({"Annie": "Ann Lee", "A. Lee": "Annie"}))
    for gold in ("Annie", "A._Lee", "Ann Lee"):
        for predicted in ("annie", "A. Lee", "Ann_Lee"):
            found = counts([(0, 3, gold)], [(0, 3, predicted)], same=same)
            assert found == Counts(1, 0, 0)
    assert counts([(0, 3, "Annie")], [(0, 3, "Bob")], same=same) == Counts(0, 1, 1)


def test_first_unused_match_in_file_order():
    # "either" equals both predictions: the gold of that name takes the first prediction
    # where it comes first, which leaves the gold "A" without one.
    def same(a, b):
        return "either" in (a.entity, b.entity) or a.entity == b.entity

    gold, predicted = [(0, 3, "either"), (0, 3, "A")], [(0, 3, "A"), (0, 3, "B")]
    assert counts(gold, predicted, same=same) == Counts(1, 1, 1)
    assert counts(gold[::-1], predicted, same=same) == Counts(2, 0, 0)


def test_micro_and_macro_by_hand():
    gold = [
        document((0, 3, "A"), (8, 11, "B"), name="two"),
        document(name="empty"),
        document((0, 3, None), name="only NIL"),
        document(name="spurious"),
        document((15, 19, "R"), name="missed"),
    ]
    predicted = [
        document((0, 3, "A"), (24, 27, "B"), (15, 19, "R"), name="two"),
        document(name="empty"),
        document((0, 3, None), name="only NIL"),
        document((0, 3, "A"), name="spurious"),
        document(name="missed"),
    ]
    result = score(gold, predicted)
    assert result.counts == Counts(tp=1, fp=3, fn=2)
    assert result.micro == pytest.approx((1 / 4, 1 / 3, 2 / 7))
    # documents score (1/3, 1/2, 2/5), 1, 1, 0, 0
    macro = [(1 / 3 + 2) / 5, (1 / 2 + 2) / 5, (2 / 5 + 2) / 5]
    assert result.macro == pytest.approx(macro)
    assert (result.documents, result.golds, result.predictions) == (5, 3, 4)
    assert not result.titles_checked


def test_nothing_at_all():
    assert score([], []).micro == (1, 1, 1)
    result = score([document()], [document()])
    assert result.micro == result.macro == (1, 1, 1)
    assert math.isnan(result.accuracy)


def test_detection_and_accuracy():
    gold = [document((0, 3, "A"), (8, 11, "B"), (15, 19, "R"), (24, 27, None))]
    predicted = [document((0, 3, "A"), (8, 11, "X"), (24, 27, "B"))]
    result = score(gold, predicted)
    assert result.detection == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert result.accuracy == 1 / 2  # of the two golds whose span was predicted


def test_title_table_and_own_kb():
    gold = [(0, 3, "gone"), (8, 11, "B")]
    predicted = [(0, 3, "gone"), (8, 11, "B")]
    one = score([document(*gold)], [document(*predicted)], titles={"B"})
    assert one.counts == Counts(1, 0, 0) and one.titles_checked
    assert one.golds == 1
    other = [(0, 3, "B"), (8, 11, "B")]  # an existing title where the gold's is gone
    assert counts(gold, other, titles={"B"}) == Counts(1, 1, 0)
    more = (24, 27, "B")
    within = counts([*gold, more], predicted, within=lambda m: m.entity == "B")
    assert within == Counts(1, 1, 1)


def test_resolve():
    resolve = make_resolve({"NYC": "New_York", "new York": "New York City", "a": "b"})
    assert resolve("nYC") == resolve("New York City") == "New York City"
    assert resolve("a") == resolve("B") == "B"
    assert resolve("Paris") == "Paris"
    circle = make_resolve({"X": "Y", "Y": "Z", "Z": "Y"})
    assert circle("X") == circle("Y") == circle("Z")
    same = same_entity(resolve)
    assert same(Mention(0, 1, "NYC"), Mention(0, 1, "New York City"))
    assert not same(Mention(0, 1, "NYC"), Mention(0, 1, "York"))
    assert not same(Mention(0, 1, None), Mention(0, 1, None))
    assert fold_title("ßa") == "ßa" and fold_title("") == ""


def test_an_alias_stands_in_for_a_title_that_the_knowledge_base_lacks(bobs):
    resolve = make_resolve({"Bob Hope": "Hope", "Bob Dylan": "Hope"}, bobs)
    assert resolve("hope") == resolve("Bob_Hope") == resolve("Bob Dylan")
    assert resolve("Hope") == "Bob Dylan" and resolve("Ann Lee") == "Ann Lee"


def test_documents_are_paired_by_id_and_text():
    one, two = document((0, 3, "A"), name="1"), document(name="2")
    assert score([one, two], [two, one]).counts == Counts(1, 0, 0)
    twin = document((0, 3, "B"), name="1")
    assert score([one, twin], [one, twin]).counts == Counts(2, 0, 0)
    with pytest.raises(ValueError, match=r"1 \('2'\) missing, 0 extra"):
        score([one, two], [one])
    with pytest.raises(ValueError, match=r"0 missing, 1 \('2'\) extra"):
        score([one], [one, two])
    altered = document(name="2", text=TEXT.upper())
    with pytest.raises(ValueError, match=r"of these 1 \('2'\) with another text"):
        score([one, two], [one, altered])
    with pytest.raises(ValueError, match=r"1 \('1'\) extra"):
        score([one], [one, one])


def test_unknown_mode():
    with pytest.raises(ValueError, match="mode"):
        score([], [], mode="strict")


mentions = st.lists(
    st.builds(
        lambda start, length, entity, ext: (start, start + length, entity, ext),
        st.integers(0, 3),
        st.integers(1, 2),
        st.sampled_from(["A", "a", "B", "C", None]),
        st.sampled_from(["Q1", "Q2", None, None]),
    ),
    max_size=6,
)
REDIRECTS = {"C": "B"}


def oracle(golds, predictions, gone):
    """The same rules with nothing but lists; gives tp, fp, fn and (P, R, F1).

    gone: titles that no longer exist, which are NIL on either side.
    """

    def title(entity):
        entity = entity[0].upper() + entity[1:]
        return REDIRECTS.get(entity, entity)

    gone = [*gone, *map(str.lower, gone), None]
    golds = [g for g in golds if g[2] not in gone]
    predictions = [p for p in predictions if p[2] not in gone]
    used = [False] * len(predictions)
    tp = fn = 0
    for g in golds:
        for j, p in enumerate(predictions):
            equal = title(g[2]) == title(p[2]) or (g[3] and g[3] == p[3])
            if not used[j] and g[:2] == p[:2] and equal:
                used[j] = True
                tp += 1
                break
        else:
            fn += 1
    fp = used.count(False)
    if tp + fp + fn == 0:
        return tp, fp, fn, (1, 1, 1)
    if tp == 0:
        return tp, fp, fn, (0, 0, 0)
    p, r = tp / (tp + fp), tp / (tp + fn)
    return tp, fp, fn, (p, r, 2 * p * r / (p + r))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(
    st.lists(st.tuples(mentions, mentions), min_size=1, max_size=4),
    st.sampled_from([[], ["A"], ["B", "C"]]),
)
def test_against_the_oracle(pairs, gone):
    gold = [document(*g, name=str(i)) for i, (g, _) in enumerate(pairs)]
    predicted = [document(*p, name=str(i)) for i, (_, p) in enumerate(pairs)]
    result = score(
        gold,
        predicted,
        same=same_entity(make_resolve(REDIRECTS)),
        titles=set("ABC").difference(gone) if gone else None,
    )
    expected = [oracle(*pair, gone) for pair in pairs]
    assert result.per_document.tolist() == [list(e[:3]) for e in expected]
    assert result.macro == pytest.approx(tuple(np.mean([e[3] for e in expected], 0)))
    tp, fp, fn = (sum(e[i] for e in expected) for i in range(3))
    assert result.counts == (tp, fp, fn)
    if tp:
        p, r = tp / (tp + fp), tp / (tp + fn)
        assert result.micro == pytest.approx((p, r, 2 * p * r / (p + r)))
    else:
        assert result.micro == ((1.0,) * 3 if fp + fn == 0 else (0.0,) * 3)


def test_bootstrap():
    rng = np.random.default_rng(0)
    golds, good, bad = [], [], []
    for i in range(120):
        golds.append(document((0, 3, "A"), (8, 11, "B"), name=str(i)))
        hit = [(0, 3, "A" if rng.random() < 0.9 else "X")]
        good.append(document(*hit, (8, 11, "B"), name=str(i)))
        bad.append(document(*hit, name=str(i)))
    a, b = score(golds, good), score(golds, bad)
    interval = compare(a, b)
    assert interval == compare(a, b)  # seeded
    assert interval.low < interval.difference < interval.high
    assert interval.low > 0
    assert interval.difference == pytest.approx(a.micro.f1 - b.micro.f1)
    assert compare(a, a) == (0, 0, 0)
    # Both systems err on the same documents. A paired bootstrap therefore gives the
    # difference a far narrower interval than either score has.
    assert interval.high - interval.low < 0.05
    with pytest.raises(ValueError, match="same documents"):
        compare(a, score(golds[:1], good[:1]))


def test_the_interval_of_one_score():
    """As its difference from a system that finds nothing, on the same draws."""
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 5, (40, 3))
    nothing = counts * [0, 0, 1]
    assert estimate(counts) == compare_means([counts], [nothing])
    assert estimate(np.array([[3, 0, 0], [1, 0, 0]])) == (1, 1, 1)
    assert estimate(np.zeros((0, 3), np.int64)) == (1, 1, 1)  # nothing to find
