"""What is decided at each position of a target: its kind, and the other edges there.

A target copies the source and inserts links. At each position the decoder may choose
among the edges that constrained decoding allows there:

    kind    the target's token            other edges
    FORCED  any                           none: one edge is allowed
    SKIP    copies a source token         OPEN: a mention of the dictionary starts here
    OPEN    OPEN                          the source token
    SPAN    lengthens or closes a mention CLOSE, or the next source token
    TITLE   of a title                    the tokens of the candidates' other titles

NONE marks the prompt and padding, where nothing is learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from insgenel_jax.kb.knowledge_base import KnowledgeBase
from insgenel_jax.text.linked_text import Link, Tokens
from insgenel_jax.tokenizer import Tokenizer

NONE, FORCED, SKIP, OPEN, SPAN, TITLE = range(6)

# A candidate of a mention: the token ids of its title, and how often the form names it
Candidate = tuple[list[int], float]


class Decision(NamedTuple):
    """The kind of a position, and the edges other than the target's.

    others: their tokens, the likelier ones first. biases: what the prior adds to the
    logits of the target and of each other edge; () where it adds nothing.
    """

    kind: int
    others: tuple[int, ...] = ()
    biases: tuple[float, ...] = ()


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
    candidates: Callable[[int | None], list[Candidate]],
    prior_weight: float = 0.0,
) -> list[Decision]:
    """The decision at every position of `format_target(tokenizer, tokens, links)`.

    candidates(form) gives those that the dictionary has for a surface form; [] for
    None. prior_weight: as in linking, see decoding.table.Weights.
    """
    source, forced = tokens.ids.tolist(), Decision(FORCED)
    outside = [
        Decision(SKIP, (tokenizer.open,)) if i in matches else forced
        for i in range(len(source))
    ]
    decisions, pointer = [], 0
    for start, end, title in links:
        ends = matches.get(start, {})
        decisions += [*outside[pointer:start], Decision(OPEN, (source[start],))]
        decisions += [
            Decision(SPAN, (tokenizer.close,)) if i in ends else forced
            for i in range(start, end)
        ]
        longer = end < max(ends, default=0)
        decisions.append(Decision(SPAN, (source[end],)) if longer else forced)  # CLOSE
        decisions.append(forced)  # ENTITY
        found = candidates(ends.get(end))
        decisions += _title_decisions(
            [*title, tokenizer.end],
            [([*ids, tokenizer.end], count) for ids, count in found],
            prior_weight,
        )
        pointer = end
    return [*decisions, *outside[pointer:], forced]


def _title_decisions(
    title: list[int], candidates: list[Candidate], prior_weight: float
) -> list[Decision]:
    """TITLE where titles of the mention part ways, else FORCED.

    A title that the dictionary does not have for the mention is TITLE throughout, and
    no prior says anything about it. The prior of all others is that without this link:
    counts are made of the very links that are learnt from here, and a prior that knows
    the answer would leave nothing to learn.
    """
    known = any(ids == title for ids, _ in candidates)
    left = [
        (ids, (_without_one(count) if ids == title else count) ** prior_weight)
        for ids, count in candidates
    ]
    decisions = []
    for place, token in enumerate(title):
        below: dict[int, list[float]] = {}
        for ids, weight in left:
            below.setdefault(ids[place], []).append(weight)
        others = [t for t in below if t != token]
        if known and not others:
            decisions.append(Decision(FORCED))
        elif known:
            others.sort(key=lambda t: -sum(below[t]))
            mean = math.log(sum(w for _, w in left) / len(left))
            biases = [
                math.log(sum(below[t]) / len(below[t])) - mean for t in (token, *others)
            ]
            decisions.append(Decision(TITLE, tuple(others), tuple(biases)))
        else:
            decisions.append(Decision(TITLE, tuple(others)))
        left = [(ids, weight) for ids, weight in left if ids[place] == token]
    return decisions


def _without_one(count: float) -> float:
    """A count of links without one of them; never 0, so that its logarithm exists."""
    return max(count - 1.0, min(count, 0.5))
