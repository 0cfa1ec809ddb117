"""The kind and the rival of each position of a target."""

import numpy as np

from insgenel_jax.text.linked_text import Tokens
from insgenel_jax.training.data.decisions import (
    FORCED,
    OPEN,
    SKIP,
    SPAN,
    TITLE,
    target_decisions,
)


def test_decisions_of_a_target(tokenizer):
    # a b c d e with a link on b c; the dictionary also has b, b c d and e
    a, b, c, d, e = range(100, 105)
    at, cuts = np.arange(5, dtype=np.int32), np.ones(5, bool)
    tokens = Tokens(np.array([a, b, c, d, e], np.int32), at, at + 1, cuts, cuts)
    matches = {1: {2: 0, 3: 1, 4: 2}, 4: {5: 3}}
    titles = {None: [], 1: [[7, 8], [7, 8, 9], [7, 6]]}.get
    links = [(1, 3, [7, 8])]
    found = target_decisions(tokenizer, tokens, links, matches, titles)
    forced = (FORCED, -1)
    assert found == [
        *(forced, (OPEN, b), forced, (SPAN, tokenizer.close), (SPAN, d), forced),
        *(forced, (TITLE, -1), (TITLE, -1)),  # 7 of all three; then 8 or 6; END or 9
        *(forced, (SKIP, tokenizer.open), forced),
    ]
    # a mention that the dictionary does not know has all its title to be learnt
    found = target_decisions(tokenizer, tokens, links, {}, titles)
    assert [kind for kind, _ in found[6:9]] == [TITLE] * 3
    assert [kind for kind, _ in found[:6]] == [FORCED, OPEN, *[FORCED] * 4]
