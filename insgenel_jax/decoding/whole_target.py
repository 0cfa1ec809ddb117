"""A transition table in; the same table continued to EOS, perhaps with dead ends, out.

Beam search needs this. It scores whole targets, so the text copied after the last
decision counts too; and the paper's beam search lets a beam open a mention that it then
cannot close, a dead end. The other decoders ask the model only where there is a
decision and need neither.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from insgenel_jax.decoding.table import COPY, OPEN, Table

NewEdge = tuple[int, int, int, int]  # state, token, next state, kind


def extend(
    table: Table, source: Sequence[int], openings: str
) -> tuple[Table, Int[np.ndarray, " E"]]:
    """A table that goes on to EOS, and the number of each of its edges in `table`.

    New edges have the number -1. The last state is the end; any other state without
    edges is a dead end. source: all source tokens of the target, then EOS. openings:
    with "candidates" the edges are those of the table. With "first_token" (*paper*),
    OPEN is allowed wherever in a decision span the first token of one of the span's
    mentions stands, and after it the source tokens, as long as they agree with one of
    those mentions; where none of them is a candidate mention, there is no CLOSE. With
    "anywhere" (*paper*: INSGENEL), OPEN is allowed at every source token, and after it
    that one token at least. Where no candidate mention starts, OPEN has the bias
    `mention_bias` alone; a token that leads to no longer candidate mention has none.

    Raises ValueError for a source that ends before the last decision span does, and for
    a mention that may take any title.
    """
    table.refuse_all_titles("beam")
    last = len(table.span_end) - 1
    if len(source) <= last:
        raise ValueError(
            f"a source of {len(source)} tokens, EOS included, for a table with "
            f"decisions up to token {last}: give all source tokens of the target, then "
            "EOS"
        )
    new: list[NewEdge] = []
    anywhere = openings == "anywhere" and bool(table.mentions)
    if table.mentions and openings != "candidates":
        new = _dead_ends(table, [int(token) for token in source], anywhere)
    states = len(table.indptr) - 1 + len(new)  # each dead-end edge has its own state
    at = last
    for number, token in enumerate(source[last:], last + 1):
        if anywhere and number < len(source):  # the last one is EOS
            new.append((at, _opening(table), states, OPEN))
            new.append((states, int(token), states + 1, COPY))
            states += 2
        new.append((at, int(token), states, COPY))
        at, states = states, states + 1
    return _add_edges(table, new, states, table.longest + len(source) - last)


def _add_edges(
    table: Table, edges: list[NewEdge], states: int, longest: int
) -> tuple[Table, Int[np.ndarray, " E"]]:
    """The table with further edges, and each edge's number in the old one, or -1."""
    new_state, new_token, new_next, new_kind = (
        np.array(edges, np.int32).reshape(-1, 4).T
    )
    state = np.concatenate([_states_of_edges(table), new_state])
    token = np.concatenate([table.token, new_token])
    order = np.lexsort((token, state))
    known = np.concatenate([np.arange(len(table.token)), np.full(len(edges), -1)])
    columns = {
        "token": (table.token, new_token),
        "next": (table.next, new_next),
        "bias": (table.bias, np.where(new_kind == OPEN, table.mention_bias, 0)),
        "kind": (table.kind, new_kind),
        "value": (table.value, np.full(len(edges), -1)),
    }
    joined = {
        name: np.concatenate([old, new]).astype(old.dtype)[order]
        for name, (old, new) in columns.items()
    }
    degree = np.bincount(state, minlength=states)
    indptr = np.concatenate([[0], np.cumsum(degree)]).astype(np.int32)
    longer = dataclasses.replace(table, indptr=indptr, longest=longest, **joined)
    return longer, known[order]


def _states_of_edges(table: Table) -> Int[np.ndarray, " E"]:
    """The state that each edge leaves."""
    return np.repeat(np.arange(len(table.indptr) - 1), np.diff(table.indptr))


def _opening(table: Table) -> int:
    """The token OPEN."""
    return int(table.token[table.kind == OPEN][0])


def _dead_ends(table: Table, source: list[int], anywhere: bool) -> list[NewEdge]:
    """The edges that "first_token" or "anywhere" adds up to the last decision span.

    Each leads to a new state, in order.
    """
    pairs = zip(_states_of_edges(table).tolist(), table.token.tolist(), strict=True)
    following = dict(zip(pairs, table.next.tolist(), strict=True))
    opening, last = _opening(table), len(table.span_end) - 1
    prefixes: dict[int, set[tuple[int, ...]]] = {}  # by the decision span's end
    for start, end, _ in table.mentions:
        known = prefixes.setdefault(int(table.span_end[start]), set())
        known |= {tuple(source[start:q]) for q in range(start + 1, end + 1)}
    states, new = len(table.indptr) - 1, []
    for p, stop in enumerate(table.span_end.tolist()):
        at, q = p, p
        known = prefixes[stop] if p < stop else set()  # else p is in no decision span
        if anywhere and p < last:
            known = {*known, (source[p],)}
        while q < len(source) and tuple(source[p : q + 1]) in known:
            steps = [(opening, OPEN)] if q == p else []
            for token, kind in [*steps, (source[q], COPY)]:
                if (at, token) not in following:
                    following[at, token] = states + len(new)
                    new.append((at, token, states + len(new), kind))
                at = following[at, token]
            q += 1
    return new
