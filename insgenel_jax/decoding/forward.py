"""One model call: new tokens under a tree mask in, logits of chosen edges out.

All decoders but the reference ask the model through `run`. Its shapes are static and
come from few buckets; the cache is donated; the caller reads one array back.
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

from insgenel_jax.tokenizer.padding import next_power, padded_length

MOVES = 32  # slots that a call may move, for each row
EDGES = (512, 4096)  # edges that a call may score, for each row
SLOTS = 256  # the smallest number of cache slots, for each row


class Model(NamedTuple):
    """The generator as functions of its params.

    forward(params, tokens [B T], positions [B T], mask [B T S], cache) -> (hidden
    [B T D], cache); unembed(params, hidden [*B D], token_ids [*B C] | None) -> logits
    [*B C] or [*B V]; init_cache(batch, slots) -> cache with "length" [B], advanced by
    the decoder; move_slots(cache, source [B P], target [B P]) -> cache.
    """

    forward: Callable
    unembed: Callable
    init_cache: Callable
    move_slots: Callable


@dataclasses.dataclass
class Request:
    """What one row asks of a call.

    length: slots in use. moved: slots whose contents go to the slots before `length`.
    tokens: the new ones; token i stands at position length + depths[i] and is seen by
    the tokens i <= j < ends[i]. at, token_ids: the edges to score, each token_ids[e]
    behind token at[e].
    """

    length: int
    tokens: Sequence[int]
    depths: Sequence[int]
    ends: Sequence[int]
    at: Sequence[int]
    token_ids: Sequence[int]
    moved: Sequence[int] = ()


@dataclasses.dataclass
class Cache:
    """The model's cache of a batch, which grows as its rows do."""

    batch: int
    slots: int = 0
    arrays: dict | None = None


def call(
    model: Model,
    params,
    cache: Cache,
    requests: Sequence[Request | None],
    *,
    vocabulary: bool = False,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Run a row for each request; a None, and what is missing of them, sits out.

    -> for each row the logits of its edges, and the logarithm of the whole vocabulary's
    summed exponentials behind the same tokens (zeros unless `vocabulary`). The cache
    holds the new tokens' keys and values then.
    """
    batch = cache.batch
    live = [request for request in requests if request is not None]
    _grow(model, cache, max(r.length + len(r.tokens) for r in live))
    T = padded_length(max(len(r.tokens) for r in live))
    most = max(len(r.at) for r in live)
    E = next((e for e in EDGES if e >= most), None) or next_power(most, EDGES[-1])
    lengths = np.full(batch, cache.slots, np.int32)  # writes past the last are dropped
    moves = np.full((2, batch, MOVES), cache.slots, np.int32)
    tokens, depths, ends = np.zeros((3, batch, T), np.int32)
    at, token_ids = np.zeros((2, batch, E), np.int32)
    for row, r in enumerate(requests):
        if r is None:
            continue
        lengths[row] = r.length
        moves[0, row, : len(r.moved)] = r.moved
        moves[1, row, : len(r.moved)] = np.arange(r.length - len(r.moved), r.length)
        for array, values in (
            (tokens, r.tokens),
            (depths, r.depths),
            (ends, r.ends),
            (at, r.at),
            (token_ids, r.token_ids),
        ):
            array[row, : len(values)] = values
    cache.arrays, logits, normaliser = run(
        model,
        params,
        cache.arrays,
        moves,
        lengths,
        tokens,
        depths,
        ends,
        at,
        token_ids,
        slots=cache.slots,
        vocabulary=vocabulary,
    )
    logits, normaliser = jax.device_get((logits, normaliser))
    found = []
    for row, r in enumerate(requests):
        count = 0 if r is None else len(r.at)
        found.append((logits[row, :count], normaliser[row, at[row, :count]]))
    return found


def _grow(model: Model, cache: Cache, needed: int) -> None:
    """Give the cache slots for `needed` tokens a row, keeping what it holds."""
    if needed > cache.slots:
        cache.slots = next_power(needed, SLOTS)
        cache.arrays = _copy(model, cache.arrays, cache.batch, cache.slots)


@functools.partial(jax.jit, static_argnames=("model", "batch", "slots"))
def _copy(model: Model, old: dict | None, batch: int, slots: int) -> dict:
    new = model.init_cache(batch, slots)
    if old is None:
        return new
    return jax.tree.map(
        lambda new, old: jax.lax.dynamic_update_slice(new, old, (0,) * old.ndim),
        new,
        old,
    )


@functools.partial(
    jax.jit,
    static_argnames=("model", "slots", "vocabulary"),
    donate_argnames=("cache",),
)
def run(
    model: Model,
    params,
    cache,
    moves: Int[Array, "2 B P"],
    lengths: Int[Array, " B"],
    tokens: Int[Array, "B T"],
    depths: Int[Array, "B T"],
    ends: Int[Array, "B T"],
    at: Int[Array, "B E"],
    token_ids: Int[Array, "B E"],
    *,
    slots: int,
    vocabulary: bool,
):
    """-> cache, logits [B E], the vocabulary's logsumexp [B T] (or zeros)."""
    with jax.named_scope("settle"):
        cache = {**model.move_slots(cache, *moves), "length": lengths}
    mask = tree_mask(lengths, ends, slots)
    # rows that sit out, behind the last slot, stand where the model has a position
    positions = jnp.where(lengths < slots, lengths, 0)[:, None] + depths
    hidden, cache = model.forward(params, tokens, positions, mask, cache)
    with jax.named_scope("score"):
        behind = jnp.take_along_axis(hidden, at[..., None], axis=1)  # [B E D]
        logits = model.unembed(params, behind, token_ids[..., None])[..., 0]
        normaliser = jnp.zeros(tokens.shape)
        if vocabulary:
            normaliser = jax.lax.map(
                lambda h: jax.nn.logsumexp(model.unembed(params, h, None), axis=-1),
                jnp.moveaxis(hidden, 1, 0),  # a token of each row at a time
            ).T
    return cache, logits, normaliser


def tree_mask(lengths, ends: Int[Array, "B T"], slots: int):
    """Bool [B T S]: a token sees the slots in use, and token i iff i <= j < ends[i].

    length 2, ends 5 3 3 5 5:     1 1 1 . . . .
    (0 above 1 and 3,             1 1 1 1 . . .
     1 above 2, 3 above 4)        1 1 1 1 1 . .
                                  1 1 1 . . 1 .
                                  1 1 1 . . 1 1
    """
    T = ends.shape[1]
    i = jnp.arange(slots) - lengths[:, None]  # [B S] the new token in each slot
    end = jnp.take_along_axis(ends, jnp.clip(i, 0, T - 1), axis=1)
    i, end, j = i[:, None], end[:, None], jnp.arange(T)[None, :, None]
    return (i < 0) | ((i <= j) & (j < end))


def log_softmax(logits: Float[np.ndarray, " E"], groups: Int[np.ndarray, " E"]):
    """Of each group of neighbours by itself, float64 [E]. groups: ascending numbers."""
    if not len(logits):
        return np.zeros(0)
    logits = np.asarray(logits, np.float64)
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    sizes = np.diff(np.append(first, len(groups)))
    shifted = logits - np.repeat(np.maximum.reduceat(logits, first), sizes)
    return shifted - np.repeat(np.log(np.add.reduceat(np.exp(shifted), first)), sizes)
