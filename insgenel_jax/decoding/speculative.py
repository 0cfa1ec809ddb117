"""The verify decoder: a few calls a chunk, greedy only.

Every decision is drafted from what the knowledge base and the retriever say; one plain
causal call runs the whole drafted chunk and scores all its decisions. Up to the first
that differs the draft holds; there the right token is taken, the rest is drafted anew
from this call's own choices, and the cache is kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from insgenel_jax.decoding.chunk import Chunk
from insgenel_jax.decoding.forward import (
    SLOTS,
    Cache,
    Model,
    Request,
    call,
    log_softmax,
)
from insgenel_jax.decoding.options import Options
from insgenel_jax.decoding.table import (
    CLOSE,
    COPY,
    END,
    Path,
    Table,
    follow,
)
from insgenel_jax.tokenizer.padding import next_power

HONOURS: frozenset[str] = frozenset()
OPEN_AT = 0.5  # link probability from which a mention is drafted


@dataclasses.dataclass
class _Row:
    """Where the decoding of one chunk stands."""

    table: Table
    draft: np.ndarray  # the edge taken at each state, as far as is known
    pending: list[int]  # tokens that are settled but not run
    path: Path
    state: int = 0
    length: int = 0
    drafted: list[int] = dataclasses.field(default_factory=list)


def shape(chunk: Chunk, options: Options) -> tuple[int]:
    """The cache slots that decoding a chunk may take."""
    return (next_power(len(chunk.prompt) + chunk.table.longest, SLOTS),)


def decode(
    model: Model,
    params,
    chunks: Sequence[Chunk],
    *,
    batch: int,
    options: Options,
) -> list[Path]:
    """Decode at most `batch` chunks greedily, each by its table. (*paper*, 3.3.)"""
    for chunk in chunks:
        chunk.table.refuse_all_titles("speculative")
    rows = [
        _Row(chunk.table, draft(chunk.table), list(chunk.prompt), Path.begin())
        for chunk in chunks
    ]
    for row in rows:
        _take(row, [])
    cache = Cache(batch)
    while any(row.table.degree(row.state) for row in rows):
        requests = [_ask(row) for row in rows]
        found = call(model, params, cache, requests)
        for row, request, (logits, _) in zip(rows, requests, found, strict=True):
            if request is not None:
                row.path.calls += 1
                row.path.tokens += len(request.tokens)
                _settle(row, logits)
    return [row.path for row in rows]


def draft(table: Table) -> np.ndarray:
    """The edge to take at each state, int32 [S] (-1 at an end), without the model.

    A mention of the highest link probability, from OPEN_AT on, the longest of equals;
    its entity by prior and retriever; else copy.
    """
    states = len(table.indptr) - 1
    chosen, value = np.full(states, -1, np.int32), np.zeros(states)
    last = len(table.span_end) - 1
    indptr, kinds, following = (
        array.tolist() for array in (table.indptr, table.kind, table.next)
    )
    scores = _entity_scores(table)
    for state in reversed(range(states)):  # but for END, edges lead to later states
        best = -np.inf
        for edge in range(indptr[state], indptr[state + 1]):
            kind = kinds[edge]
            if kind == END:
                found = scores[edge]
            elif kind == CLOSE:
                mention = table.mentions[table.value[edge]][2]
                found = mention.link_probability
            elif kind != COPY:
                found = value[following[edge]]
            elif state > last:
                found = value[following[edge]] + 1e-9  # the longest of equals
            else:
                found = OPEN_AT
            if found > best:
                best, chosen[state] = found, edge
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
    """The pending tokens and the draft, up to its last decision."""
    table = row.table
    if not table.degree(row.state):
        return None
    state, row.drafted, last = row.state, [], 0
    while table.degree(state):
        edge = int(row.draft[state])
        if table.degree(state) > 1:
            last = len(row.drafted)
        row.drafted.append(edge)
        state = int(table.next[edge])
    row.drafted = row.drafted[: last + 1]
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


def _decisions(row: _Row):
    """For each drafted edge its state and the edges to choose from, none if forced."""
    state = row.state
    for edge in row.drafted:
        first, end = row.table.indptr[state : state + 2].tolist()
        yield state, range(first, end) if end - first > 1 else ()
        state = int(row.table.next[edge])


def _settle(row: _Row, logits: np.ndarray) -> None:
    """Accept the draft up to the first decision that differs, and draft the rest anew."""
    table, read, right = row.table, 0, True
    taken, probs = [], []
    for edge, (state, choices) in zip(row.drafted, _decisions(row), strict=True):
        best, log_prob = edge, 0.0
        if choices:
            scored = logits[read : read + len(choices)] + table.bias[list(choices)]
            read += len(choices)
            k = int(np.argmax(scored))  # the first of equals
            best = row.draft[state] = choices[k]
            if right:
                log_prob = log_softmax(scored, np.zeros(len(scored)))[k]
                second, first = np.partition(scored, -2)[-2:]
                row.path.gap = min(row.path.gap, float(first - second))
        if right:
            taken.append(best)
            probs.append(log_prob)
            right = best == edge
    row.length += len(row.pending) + len(taken) - 1
    row.pending = []
    row.path.extend(taken, probs)
    _take(row, taken[-1:])


def _take(row: _Row, edges: list[int]) -> None:
    """Move on over edges whose tokens are not run yet, and what is forced after them."""
    if edges:
        row.state = int(row.table.next[edges[-1]])
    row.state, forced = follow(row.table, row.state)
    row.path.extend(forced)
    row.pending += row.table.token[[*edges, *forced]].tolist()
