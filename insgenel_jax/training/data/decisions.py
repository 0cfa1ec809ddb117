"""What is decided at each position of a target: its kind, and the rival of its token.

A target copies the source and inserts links. At each position the decoder may choose
among the edges that constrained decoding allows there:

    kind    the target's token            the other edge (the rival)
    FORCED  any                           none: one edge is allowed
    SKIP    copies a source token         OPEN: a mention of the dictionary starts here
    OPEN    OPEN                          the source token
    SPAN    lengthens or closes a mention CLOSE, or the next source token
    TITLE   of a title                    no single one: titles of candidates part here

NONE marks the prompt and padding, where nothing is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.linked_text import Link, Tokens
from insgenel_jax.tokenizer import Tokenizer

NONE, FORCED, SKIP, OPEN, SPAN, TITLE = range(6)
NO_RIVAL = -1


def token_matches(
    tokens: Tokens, text: str, kb: KnowledgeBase | None
) -> dict[int, dict[int, int]]:
    """Dictionary matches of a text on its tokens: first token -> {end: surface form}.

    Matches that start or end inside a token are left out.
    """
    if kb is None or not len(tokens):
        return {}
    matches = kb.matches(text)
    i = np.searchsorted(tokens.starts, matches.starts, side="left")
    j = np.searchsorted(tokens.ends, matches.ends, side="right")
    i = np.minimum(i, len(tokens) - 1)
    exact = (tokens.starts[i] == matches.starts) & (i < j)
    exact &= tokens.ends[j - 1] == matches.ends
    by_start: dict[int, dict[int, int]] = {}
    for start, end, form in zip(
        i[exact].tolist(), j[exact].tolist(), matches.forms[exact].tolist(), strict=True
    ):
        by_start.setdefault(start, {})[end] = form
    return by_start


def target_decisions(
    tokenizer: Tokenizer,
    tokens: Tokens,
    links: Sequence[Link],
    matches: dict[int, dict[int, int]],
    titles: Callable[[int | None], list[list[int]]],
) -> list[tuple[int, int]]:
    """(kind, rival) of every position of `format_target(tokenizer, tokens, links)`.

    titles(form) gives the token ids of the titles that the dictionary has for a surface
    form; [] for None.
    """
    source, forced = tokens.ids.tolist(), (FORCED, NO_RIVAL)
    outside = [
        (SKIP, tokenizer.open) if i in matches else forced for i in range(len(source))
    ]
    decisions, pointer = [], 0
    for start, end, title in links:
        ends = matches.get(start, {})
        decisions += [*outside[pointer:start], (OPEN, source[start])]
        decisions += [
            (SPAN, tokenizer.close) if i in ends else forced for i in range(start, end)
        ]
        longer = end < max(ends, default=0)
        decisions += [(SPAN, source[end]) if longer else forced, forced]  # CLOSE ENTITY
        decisions += _title_decisions(
            [*title, tokenizer.end], titles(ends.get(end)), tokenizer
        )
        pointer = end
    return [*decisions, *outside[pointer:], forced]


def _title_decisions(
    title: list[int], others: list[list[int]], tokenizer: Tokenizer
) -> list[tuple[int, int]]:
    """TITLE where titles of the mention part ways, else FORCED.

    A title that the dictionary does not have for the mention is TITLE throughout.
    """
    decisions, left = [], [[*other, tokenizer.end] for other in others]
    unknown = title not in left
    for place, token in enumerate(title):
        allowed = {other[place] for other in left}
        choice = unknown or len(allowed) > 1
        decisions.append((TITLE if choice else FORCED, NO_RIVAL))
        left = [other for other in left if other[place] == token]
    return decisions
