"""A chunk's transition table in; out, one that goes on to EOS, with dead ends if wanted.

The decoders that ask only where something is decided need neither. Beam search scores
whole targets, and the paper's lets beams walk into dead ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from insgenel_jax.decoding.table import COPY, OPEN, Table


def extend(
    table: Table, source: Sequence[int], openings: str
) -> tuple[Table, np.ndarray]:
    """A table that goes on to EOS. -> it, and its edges' numbers in `table` (new: -1).

    Its end is its last state; any other state without edges is a dead end. With
    "first_token" OPEN is allowed wherever in a decision span the first token of one of
    the span's mentions stands, and behind it the source, as long as it agrees with one
    of them: where none of them is a candidate mention, there is no CLOSE.
    """
    table.refuse_all_titles("beam")
    states, last = len(table.indptr) - 1, len(table.span_end) - 1
    state = np.repeat(np.arange(states), np.diff(table.indptr))
    new: list[tuple[int, int, int, int]] = []  # state, token, next, kind
    if openings == "first_token" and table.mentions:
        new = _dead_ends(table, state, [int(token) for token in source])
        states += len(new)  # each leads to a new one
    at = last
    if len(source) <= last:
        raise ValueError(
            f"a source of {len(source)} tokens, EOS included, for a table with decisions "
            f"up to token {last}: give all source tokens of the target, then EOS"
        )
    for token in source[last:]:
        new.append((at, int(token), states, COPY))
        at, states = states, states + 1
    mention_bias = table.bias[table.kind == OPEN].max(initial=-np.inf)
    added = np.array(new, np.int32).reshape(-1, 4).T
    known = np.concatenate([np.arange(len(state)), np.full(len(new), -1)])
    token = np.concatenate([table.token, added[1]])
    state = np.concatenate([state, added[0]])
    order = np.lexsort((token, state))
    degree = np.bincount(state, minlength=states)

    def join(old, values):
        return np.concatenate([old, values]).astype(old.dtype)[order]

    return (
        dataclasses.replace(
            table,
            indptr=np.concatenate([[0], np.cumsum(degree)]).astype(np.int32),
            token=token.astype(np.int32)[order],
            next=join(table.next, added[2]),
            bias=join(table.bias, np.where(added[3] == OPEN, mention_bias, 0)),
            kind=join(table.kind, added[3]),
            value=join(table.value, np.full(len(new), -1)),
            longest=table.longest + len(source) - last,
        ),
        known[order],
    )


def _dead_ends(table: Table, state: np.ndarray, source: list[int]) -> list[tuple]:
    """The edges that "first_token" adds: each leads to a state of its own, in order."""
    following = dict(
        zip(
            zip(state.tolist(), table.token.tolist(), strict=True),
            table.next.tolist(),
            strict=True,
        )
    )
    opening = int(table.token[table.kind == OPEN][0])
    prefixes: dict[int, set[tuple[int, ...]]] = {}  # by the decision span's end
    for start, end, _ in table.mentions:
        known = prefixes.setdefault(int(table.span_end[start]), set())
        known |= {tuple(source[start:q]) for q in range(start + 1, end + 1)}
    states, new = len(table.indptr) - 1, []
    for p, stop in enumerate(table.span_end.tolist()):
        at, q = p, p
        known = prefixes[stop] if p < stop else ()  # else p is in no decision span
        while q < len(source) and tuple(source[p : q + 1]) in known:
            steps = [(opening, OPEN)] if q == p else []
            for token, kind in [*steps, (source[q], COPY)]:
                if (at, token) not in following:
                    following[at, token] = states + len(new)
                    new.append((at, token, states + len(new), kind))
                at = following[at, token]
            q += 1
    return new
