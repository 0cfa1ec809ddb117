"""The kind and the other edges of each position of a target."""

import math

import numpy as np
import pytest

from insgenel_jax.text.linked_text import Tokens
from insgenel_jax.training.data.decisions import (
    FORCED,
    OPEN,
    SKIP,
    SPAN,
    TITLE,
    Decision,
    target_decisions,
)


def test_decisions_of_a_target(tokenizer):
    # a b c d e with a link on b c; the dictionary also has b, b c d and e
    a, b, c, d, e = range(100, 105)
    at, cuts = np.arange(5, dtype=np.int32), np.ones(5, bool)
    tokens = Tokens(np.array([a, b, c, d, e], np.int32), at, at + 1, cuts, cuts)
    matches = {1: {2: 0, 3: 1, 4: 2}, 4: {5: 3}}
    titles = [([7, 8], 4.0), ([7, 8, 9], 2.0), ([7, 6], 1.0)]
    candidates = {None: [], 1: titles}.get
    links = [(1, 3, [7, 8])]
    end, close = tokenizer.end, tokenizer.close
    found = target_decisions(tokenizer, tokens, links, matches, candidates)
    assert [(kind, others) for kind, others, _ in found] == [
        *((FORCED, ()), (OPEN, (b,)), (FORCED, ()), (SPAN, (close,)), (SPAN, (d,))),
        *((FORCED, ()), (FORCED, ())),  # ENTITY; 7 begins all three titles
        *((TITLE, (6,)), (TITLE, (9,))),  # then 8 or 6; END or 9
        *((FORCED, ()), (SKIP, (tokenizer.open,)), (FORCED, ())),
    ]
    assert not any(any(decision.biases) for decision in found)
    # a mention that the dictionary does not know has all its title to be learnt
    found = target_decisions(tokenizer, tokens, links, {}, candidates)
    assert [decision.kind for decision in found[6:9]] == [TITLE] * 3
    assert [d.kind for d in found[:6]] == [FORCED, OPEN, *[FORCED] * 4]
    # one that it does not have for the surface form has all their tokens beside its own
    found = target_decisions(
        tokenizer, tokens, [(1, 3, [7, 5])], matches, candidates, 1.0
    )
    assert found[6:9] == [Decision(TITLE, ()), Decision(TITLE, (8, 6)), (TITLE, (), ())]
    assert end not in found[8].others


def test_the_prior_is_counted_without_the_link_at_hand(tokenizer):
    at, cuts = np.arange(1, dtype=np.int32), np.ones(1, bool)
    tokens = Tokens(np.array([100], np.int32), at, at + 1, cuts, cuts)
    candidates = {0: [([7, 8], 4.0), ([7, 9], 2.0), ([6], 1.0)]}.get
    links, matches = [(0, 1, [7, 9])], {0: {1: 0}}
    found = target_decisions(tokenizer, tokens, links, matches, candidates, 2.0)
    weights = {(7, 8): 4.0**2, (7, 9): 1.0**2, (6,): 1.0**2}  # 2 - 1 for the gold

    def bias(inside, above):
        below, over = ([weights[t] for t in titles] for titles in (inside, above))
        return math.log(np.mean(below) / np.mean(over))

    sevens = [(7, 8), (7, 9)]
    everything = [*sevens, (6,)]
    first, second = [d for d in found if d.kind == TITLE]
    assert first.others == (6,) and second.others == (8,)
    expected = [bias(sevens, everything), bias([(6,)], everything)]
    assert first.biases == pytest.approx(expected)
    expected = [bias([(7, 9)], sevens), bias([(7, 8)], sevens)]
    assert second.biases == pytest.approx(expected)
    # a gold that this link alone is counted for does not vanish
    once = {0: [([7], 3.0), ([6], 1.0)]}.get
    found = target_decisions(tokenizer, tokens, [(0, 1, [6])], matches, once, 1.0)
    (title,) = [d for d in found if d.kind == TITLE]
    assert title.biases == pytest.approx([math.log(0.5 / 1.75), math.log(3 / 1.75)])
