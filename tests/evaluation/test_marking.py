"""Marked texts: the pieces are the text, and each character is marked as it should."""

from hypothesis import given, settings
from hypothesis import strategies as st

from insgenel_jax.evaluation import losses, marking, scoring
from insgenel_jax.text.document import Document, Mention

TEXT = "Ann met Bob."
SAME = scoring.same_entity()
SPANS = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted)
GOLDS = SPANS.filter(lambda span: span[0] < span[1])


def mentions(spans):
    names = st.sampled_from(["A", "B", None])
    return st.lists(st.builds(lambda s, n: Mention(*s, n), spans, names), max_size=5)


@settings(max_examples=60, deadline=None)
@given(mentions(GOLDS), mentions(SPANS))
def test_pieces_against_each_character(golds, links):
    """Links may overlap, come twice or be empty, as in the files of other linkers."""
    gold = Document("1", TEXT, None, tuple(golds))
    linked = Document("1", TEXT, None, tuple(links))
    (lost,) = losses.find_losses([gold], [linked], None, scoring.make_resolve())
    names = losses.name_errors(gold, linked, SAME)
    errors = marking.find_errors(linked, lost, names)
    pieces = marking.cut(gold, linked, lost, names, errors)
    assert "".join(piece.text for piece in pieces) == TEXT
    shown = [piece.mark for piece in pieces for _ in piece.text]

    def covered(those, i):
        return any(m.start <= i < m.end for m in those)

    wrong = [m for m, name in zip(links, names, strict=True) if name]
    right = [m for m, n in zip(links, names, strict=True) if not n and m.entity]
    missed = [m for m, _ in lost]
    for i, mark in enumerate(shown):
        bad = covered(wrong, i), covered(missed, i)
        expected = {(1, 1): "wrong", (1, 0): "extra", (0, 1): "missed"}.get(bad)
        if expected is None:
            nil = "nil" if covered([m for m in golds if m.entity is None], i) else ""
            expected = "right" if covered(right, i) else nil
        assert mark == expected
    # every error ends somewhere, once
    ends = sorted(number for piece in pieces for number in piece.ends)
    assert ends == list(range(1, len(errors) + 1))
    assert len(right) + sum(name is not None for name in names) == sum(
        m.entity is not None for m in links
    )


def test_a_gold_and_the_wrong_link_on_it_are_one_error():
    gold = Document("1", TEXT, None, (Mention(0, 3, "Ann Lee"), Mention(8, 11, "Bob")))
    links = (Mention(0, 3, "Ann", None, 0.5), Mention(4, 11, "Bob"))
    linked = Document("1", TEXT, None, links)
    (lost,) = losses.find_losses([gold], [linked], None, scoring.make_resolve())
    names = losses.name_errors(gold, linked, SAME)
    assert marking.find_errors(linked, lost, names) == [
        marking.Error(0, 3, "Ann", "wrong entity", "Ann Lee", "Ann", 0.5),
        marking.Error(4, 11, "met Bob", "wrong span", None, "Bob"),
        marking.Error(8, 11, "Bob", "wrong span", "Bob", None),
    ]
