"""The reference decoder: one decision a call, in one jitted loop over a batch.

Prompts and transition tables in; for every row the edges taken and their
log-probabilities out. Forced tokens are not decided: they ride along in the next call,
up to `block` of them, and what follows the last decision is not run at all.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from insgenel_jax.decoding.decisions import Table


class Model(NamedTuple):
    """The generator as functions of its params.

    forward(params, tokens [B T], positions [B T], mask [B T S], cache) -> (hidden
    [B T D], cache); unembed(params, hidden [B D], token_ids [B C]) -> logits [B C];
    init_cache(batch, slots) -> cache with "length" [B], advanced by the decoder.
    """

    forward: Callable
    unembed: Callable
    init_cache: Callable


@dataclasses.dataclass(frozen=True)
class Path:
    """What was decided for a chunk: the edges taken, in order, and ln p of each.

    A forced edge has ln p = 0. calls: forwards the chunk took part in; tokens: run.
    """

    edges: np.ndarray
    log_probs: np.ndarray
    calls: int
    tokens: int


class Tables(NamedTuple):
    """The transition tables of a batch, padded: [B, S + 1] and three times [B, E]."""

    indptr: np.ndarray
    token: np.ndarray
    next: np.ndarray
    bias: np.ndarray


def bucket(size: int, smallest: int, factor: int = 2) -> int:
    """The static size for `size`: `smallest` times a power of `factor`."""
    while smallest < size:
        smallest *= factor
    return smallest


def decode(
    model: Model,
    params,
    prompts: Sequence[Sequence[int]],
    tables: Sequence[Table],
    *,
    batch: int,
    block: int = 8,
) -> list[Path]:
    """Decode at most `batch` chunks greedily, each by its table. (*paper*, 3.3.)"""
    starts = [_follow(table) for table in tables]
    rows = [i for i, (state, _) in enumerate(starts) if _degree(tables[i], state)]
    paths = [
        Path(np.array(run, np.int32), np.zeros(len(run)), 0, 0) for _, run in starts
    ]
    if not rows:
        return paths
    pending = [[*prompts[i], *tables[i].token[starts[i][1]].tolist()] for i in rows]
    lengths = _pad([np.array([len(tokens)]) for tokens in pending], batch, 1)[:, 0]
    width = bucket(max(int(np.diff(tables[i].indptr).max()) for i in rows), 8, 4)
    run = bucket(max(len(tokens) for tokens in pending), 64)
    longest = bucket(max(tables[i].longest for i in rows), 64)
    packed = pack_tables([tables[i] for i in rows], batch)
    edges, log_probs, counts, calls, ran = jax.device_get(
        _decode(
            model,
            params,
            _pad([np.array(tokens) for tokens in pending], batch, run),
            lengths,
            _pad([np.array([starts[i][0]]) for i in rows], batch, 1)[:, 0],
            len(rows),
            Tables(*packed),
            width=width,
            slots=run + longest,
            longest=longest,
            block=block,
        )
    )
    for row, i in enumerate(rows):
        forced = starts[i][1]
        paths[i] = Path(
            np.concatenate([forced, edges[row, : counts[row]]]).astype(np.int32),
            np.concatenate([np.zeros(len(forced)), log_probs[row, : counts[row]]]),
            int(calls[row]),
            int(ran[row]),
        )
    return paths


def pack_tables(tables: Sequence[Table], batch: int) -> Tables:
    """Pad the tables of a batch to common static sizes.

    The states and rows that padding adds have no edges: they are at their end.
    """
    states = bucket(max(len(table.indptr) for table in tables), 256, 4)
    edges = bucket(max(len(table.token) for table in tables), 256, 4)
    indptr = [
        np.pad(table.indptr, (0, states - len(table.indptr)), mode="edge")
        for table in tables
    ]
    return Tables(
        _pad(indptr, batch, states),
        _pad([table.token for table in tables], batch, edges),
        _pad([table.next for table in tables], batch, edges),
        _pad([table.bias for table in tables], batch, edges, np.float32),
    )


@functools.partial(
    jax.jit, static_argnames=("model", "width", "slots", "longest", "block")
)
def _decode(
    model: Model,
    params,
    prompts: Int[Array, "B T"],
    lengths: Int[Array, " B"],
    states: Int[Array, " B"],
    rows: int,
    tables: Tables,
    *,
    width: int,
    slots: int,
    longest: int,
    block: int,
):
    B = prompts.shape[0]
    each = jnp.arange(B)

    def degree(state):
        return tables.indptr[each, state + 1] - tables.indptr[each, state]

    def run(tokens, count, cache):
        """Feed `count` [B] of the tokens [B T]; the hidden state of the last one."""
        positions = cache["length"][:, None] + jnp.arange(tokens.shape[1])
        mask = jnp.arange(slots) <= positions[:, :, None]  # [B, T, S]
        hidden, cache = model.forward(params, tokens, positions, mask, cache)
        cache = {**cache, "length": cache["length"] + count}
        return hidden[each, jnp.maximum(count - 1, 0)], cache

    def choose(state, hidden: Float[Array, "B D"]):
        """The best allowed edge and its ln p over the allowed ones, [B] each."""
        first = tables.indptr[each, state]
        edges = first[:, None] + jnp.arange(width)
        allowed = jnp.arange(width) < degree(state)[:, None]
        token_ids = jnp.take_along_axis(tables.token, edges, axis=1, mode="clip")
        bias = jnp.take_along_axis(tables.bias, edges, axis=1, mode="clip")
        logits = model.unembed(params, hidden, token_ids) + bias
        logits = jnp.where(allowed, logits, -1e30)
        best = jnp.argmax(logits, axis=-1)
        return first + best, jax.nn.log_softmax(logits)[each, best]

    def advance(state, edge, log_prob, out):
        """Take `edge` where a row is not at its end, then up to block - 1 forced ones.

        Returns the new state, the tokens taken [B block], how many, and `out`.
        """

        def take(carry):
            state, tokens, count, live, edge, log_prob, (edges, log_probs, total) = (
                carry
            )
            # a column out of range drops the write of a row that is not live
            at = jnp.where(live, total, longest)
            edges = edges.at[each, at].set(edge, mode="drop")
            log_probs = log_probs.at[each, at].set(log_prob, mode="drop")
            at = jnp.where(live, count, block)
            tokens = tokens.at[each, at].set(tables.token[each, edge], mode="drop")
            state = jnp.where(live, tables.next[each, edge], state)
            out = edges, log_probs, total + live
            count = count + live
            live = live & (degree(state) == 1) & (count < block)
            forced = tables.indptr[each, state]
            return state, tokens, count, live, forced, jnp.zeros(B), out

        tokens, count = jnp.zeros((B, block), jnp.int32), jnp.zeros(B, jnp.int32)
        carry = state, tokens, count, degree(state) > 0, edge, log_prob, out
        carry = jax.lax.while_loop(lambda carry: carry[3].any(), take, carry)
        state, tokens, count, _, _, _, out = carry
        return state, tokens, count, out

    def body(carry):
        state, tokens, count, cache, out, calls, ran = carry
        live = degree(state) > 0
        count = jnp.where(live, count, 0)
        hidden, cache = run(tokens, count, cache)
        edge, log_prob = choose(state, hidden)
        calls, ran = calls + live, ran + count
        state, tokens, count, out = advance(state, edge, log_prob, out)
        return state, tokens, count, cache, out, calls, ran

    real = jnp.arange(B) < rows
    with jax.named_scope("prefill"):
        cache = model.init_cache(B, slots)
        hidden, cache = run(prompts, lengths, cache)
        out = (
            jnp.zeros((B, longest), jnp.int32),
            jnp.zeros((B, longest)),
            jnp.zeros(B, jnp.int32),
        )
        edge, log_prob = choose(states, hidden)
        state, tokens, count, out = advance(states, edge, log_prob, out)
    with jax.named_scope("decide"):
        carry = (state, tokens, count, cache, out, real.astype(jnp.int32), lengths)
        carry = jax.lax.while_loop(
            lambda carry: (degree(carry[0]) > 0).any(), body, carry
        )
    _, _, _, _, (edges, log_probs, total), calls, ran = carry
    return edges, log_probs, total, calls, ran


def _follow(table: Table) -> tuple[int, np.ndarray]:
    """Forced edges from the start: the state they lead to, and the edges."""
    state, edges = 0, []
    while _degree(table, state) == 1:
        edges.append(int(table.indptr[state]))
        state = int(table.next[edges[-1]])
    return state, np.array(edges, np.int64)


def _degree(table: Table, state: int) -> int:
    return int(table.indptr[state + 1] - table.indptr[state])


def _pad(rows: Sequence[np.ndarray], batch: int, width: int, dtype=np.int32):
    padded = np.zeros((batch, width), dtype)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return padded
