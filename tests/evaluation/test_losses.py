"""Losses by stage, one case for each stage."""

import pytest

from insgenel_jax.evaluation.losses import (
    MISSED,
    count_losses,
    find_losses,
    name_errors,
)
from insgenel_jax.evaluation.scoring import make_resolve, same_entity
from insgenel_jax.text.document import Document, Mention

TEXT = "Ann met Bob in Rome and Bob left."


def document(*mentions):
    return Document("d", TEXT, mentions=tuple(Mention(*m) for m in mentions))


HOPE = (8, 11, "Bob Hope")


@pytest.mark.parametrize(
    ("gold", "predicted", "candidates", "stage"),
    [
        ((8, 11, "Bob Marley"), [], None, "not in KB"),
        ((15, 19, "Bob Hope"), [], None, "surface not in dictionary"),
        ((0, 3, "Bob Hope"), [], None, "surface not in dictionary"),
        ((0, 3, "Another Ann", "Q3"), [], None, "opening refused"),
        (HOPE, [], {}, "not retrieved"),
        (HOPE, [], {(8, 11): {1}}, "not retrieved"),
        (HOPE, [(8, 11, "Bob Dylan")], {(8, 11): {1}}, "not retrieved"),
        (HOPE, [(0, 3, "Ann Lee")], {(8, 11): {0, 1}}, "opening refused"),
        (HOPE, [(8, 14, "Bob Dylan")], {(8, 11): {0, 1}}, "wrong span"),
        (HOPE, [(8, 11, "Bob Dylan")], {(8, 11): {0, 1}}, "wrong entity"),
        (HOPE, [(8, 11, "Bob Dylan")], None, "wrong entity"),
        (HOPE, [(8, 11, "bob_Hope")], {}, None),
        ((8, 11, None), [], {}, None),
    ],
)
def test_losses(bobs, gold, predicted, candidates, stage):
    lost = count_losses(
        [document(gold)],
        [document(*predicted)],
        bobs,
        make_resolve(kb=bobs),
        None if candidates is None else [candidates],
    )
    assert {name: count for name, count in lost.items() if count} == (
        {} if stage is None else {stage: 1}
    )


def test_an_alias_counts_as_its_title(bobs):
    """Without redirects, a knowledge base holds the alias as an entity of its own."""
    resolve = make_resolve({"Ann Lee": "Bob Dylan"}, bobs)
    gold = [document((0, 3, "Bob Dylan"))]
    lost = count_losses(gold, [document()], bobs, resolve, [{(0, 3): [2]}])
    assert lost["opening refused"] == 1


def test_without_a_knowledge_base_what_decoding_lost_is_known():
    gold = [document(HOPE, (0, 3, "Ann Lee"), (15, 19, "Rome"))]
    linked = [document((8, 11, "Bob"), (2, 5, "Ann Lee"))]
    (lost,) = find_losses(gold, linked, None, make_resolve())
    assert [stage for _, stage in lost] == ["wrong entity", "wrong span", MISSED]


@pytest.mark.parametrize(
    ("links", "names"),
    [
        ([HOPE, HOPE], [None, "duplicate"]),
        ([(8, 11, "Bob Dylan")], ["wrong entity"]),
        ([(8, 14, "Bob Hope")], ["wrong span"]),
        ([(15, 19, "Rome")], ["gold is NIL"]),
        ([(24, 27, "Bob Hope")], ["no gold here"]),
        ([(24, 27, None)], [None]),
    ],
)
def test_what_is_wrong_with_a_link(links, names):
    gold = document(HOPE, (15, 19, None))
    assert name_errors(gold, document(*links), same_entity()) == names
