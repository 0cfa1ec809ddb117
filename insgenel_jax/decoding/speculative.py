"""The speculative decoder: a few calls a chunk, greedy selection only.

Every decision is drafted from what the knowledge base and the retriever say. One causal
call runs the whole drafted chunk and scores all its decisions. The draft is accepted up
to the first decision that differs from the model's; there the model's edge is taken,
the rest is drafted anew from the model's own choices in this call, and decoding goes on
with the KV cache kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.continuous import Rows, decode_rows
from insgenel_jax.decoding.forward import Answer, Model
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.packing import Request
from insgenel_jax.decoding.path import DecodedPath, follow, log_softmax
from insgenel_jax.decoding.table import CLOSE, COPY, END, Table

HONOURS: frozenset[str] = frozenset()
OPEN_AT = 0.5  # link probability from which a mention is drafted
LONGER = 1e-9  # added for each token of a mention: in a tie the longest is drafted


@dataclasses.dataclass
class _Row:
    """Where the decoding of one chunk stands.

    draft: the edge drafted at each state. pending: tokens that are settled but not run.
    length: cache slots in use. drafted: the edges that the current call runs or scores.
    """

    table: Table
    draft: Int[np.ndarray, " S"]
    pending: list[int]
    path: DecodedPath
    state: int = 0
    length: int = 0
    drafted: list[int] = dataclasses.field(default_factory=list)


def decode(
    model: Model,
    params,
    chunks: Iterable[Chunk],
    *,
    batch: int,
    options: Options,
    **seats: Any,
) -> list[DecodedPath]:
    """Decode chunks greedily, each by its table, at most `batch` at once.

    (*paper*, 3.3.) seats: see `continuous.decode_rows`. Raises ValueError for a mention
    that may take any title.
    """
    rows = Rows(
        begin=_begin,
        ask=_ask,
        take_in=_take_in,
        bound=lambda chunk: len(chunk.prompt) + chunk.table.longest,
    )
    return decode_rows(model, params, chunks, rows, batch=batch, **seats)


def _begin(chunk: Chunk) -> _Row:
    chunk.table.refuse_all_titles("speculative")
    path = DecodedPath.begin()
    row = _Row(chunk.table, draft(chunk.table), list(chunk.prompt), path)
    _take(row, [])
    return row


def _take_in(row: _Row, request: Request, answer: Answer) -> None:
    row.path.calls += 1
    row.path.tokens += len(request.tokens)
    _accept(row, answer.logits)


def draft(table: Table) -> Int[np.ndarray, " S"]:
    """The edge to take at each state, without the model: int32, -1 where there is none.

    The drafted mention is the one of the highest link probability from OPEN_AT on;
    in a tie, the longest. Its entity is the best by prior and retriever together.
    Elsewhere the source is copied.
    """
    states = len(table.indptr) - 1
    chosen, value = np.full(states, -1, np.int32), np.zeros(states)
    last = len(table.span_end) - 1
    indptr, kinds, following = (
        array.tolist() for array in (table.indptr, table.kind, table.next)
    )
    entity_scores = _entity_scores(table)
    for state in reversed(range(states)):  # edges lead to later states, but for END
        best = -np.inf
        for edge in range(indptr[state], indptr[state + 1]):
            kind = kinds[edge]
            if kind == END:
                score = entity_scores[edge]
            elif kind == CLOSE:
                mention = table.mentions[table.value[edge]][2]
                score = mention.link_probability
            elif kind != COPY:
                score = value[following[edge]]
            elif state > last:  # within a mention
                score = value[following[edge]] + LONGER
            else:
                score = OPEN_AT
            if score > best:
                best, chosen[state] = score, edge
        value[state] = best
    return chosen


def _entity_scores(table: Table) -> dict[int, float]:
    """END edge -> log prior plus the retriever's log-softmax of its entity."""
    scores = {}
    for closing in np.flatnonzero(table.kind == CLOSE).tolist():
        mention = table.mentions[table.value[closing]][2]
        total = mention.log_prior + mention.log_retriever
        by_entity = dict(zip(mention.entities.tolist(), total.tolist(), strict=True))
        stack = [int(table.next[closing])]
        while stack:
            state = stack.pop()
            for edge in range(table.indptr[state], table.indptr[state + 1]):
                if table.kind[edge] == END:
                    scores[edge] = by_entity[int(table.value[edge])]
                else:
                    stack.append(int(table.next[edge]))
    return scores


def _ask(row: _Row) -> Request | None:
    """The pending tokens and the draft, up to its last decision; None at the end."""
    table = row.table
    if not table.degree(row.state):
        return None
    state, drafted, last = row.state, [], 0
    while table.degree(state):
        edge = int(row.draft[state])
        if table.degree(state) > 1:
            last = len(drafted)
        drafted.append(edge)
        state = int(table.next[edge])
    row.drafted = drafted[: last + 1]
    tokens = row.pending + table.token[row.drafted[:-1]].tolist()
    first, n = len(row.pending) - 1, len(tokens)
    at, edges = [], []
    for k, (_, choices) in enumerate(_decisions(row)):
        at += [first + k] * len(choices)
        edges += choices
    return Request(
        length=row.length,
        tokens=tokens,
        depths=range(n),
        ends=[n] * n,
        at=at,
        token_ids=table.token[edges],
    )


def _decisions(row: _Row) -> Iterator[tuple[int, Sequence[int]]]:
    """For each drafted edge its state and the edges to choose from, none if forced."""
    state = row.state
    for edge in row.drafted:
        first, end = row.table.indptr[state : state + 2].tolist()
        yield state, range(first, end) if end - first > 1 else ()
        state = int(row.table.next[edge])


def _accept(row: _Row, logits: Float[np.ndarray, " E"]) -> None:
    """Accept the draft up to the first decision that differs; draft the rest anew.

    logits: of the edges of all decisions, one decision after the other.
    """
    table, begin, accepting = row.table, 0, True
    taken, log_probs = [], []
    for edge, (state, choices) in zip(row.drafted, _decisions(row), strict=True):
        best, log_prob = edge, 0.0
        if choices:
            biased = logits[begin : begin + len(choices)] + table.bias[list(choices)]
            begin += len(choices)
            k = int(np.argmax(biased))  # in a tie, the first
            best = row.draft[state] = choices[k]
            if accepting:
                log_prob = log_softmax(biased, np.zeros(len(biased), int))[k]
                second, first = np.partition(biased, -2)[-2:]
                row.path.margin = min(row.path.margin, float(first - second))
        if accepting:
            taken.append(best)
            log_probs.append(log_prob)
            accepting = best == edge
    row.length += len(row.pending) + len(taken) - 1
    row.pending = []
    row.path.extend(taken, log_probs)
    _take(row, taken[-1:])


def _take(row: _Row, edges: list[int]) -> None:
    """Take edges whose tokens are not run yet, and the forced ones after them."""
    if edges:
        row.state = int(row.table.next[edges[-1]])
    row.state, forced = follow(row.table, row.state)
    row.path.extend(forced)
    row.pending += row.table.token[[*edges, *forced]].tolist()
