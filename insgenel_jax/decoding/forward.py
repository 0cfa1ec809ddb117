"""One model call: new tokens under a tree mask in, logits of chosen edges out.

The decoders that loop on the host, `tree` and `speculative`, ask the model through
`call`. It runs one jitted program, `run`, and reads its result back once. The shapes
are static and come from few series, so that few programs compile, and the KV cache is
donated from each call to the next.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.tokenizer.padding import next_power, padded_length

MOVES = 32  # cache slots that a call can move, for each row
EDGES = (512, 4096)  # edges that a call scores, for each row; then powers of two
SLOTS = 256  # the smallest number of cache slots, for each row


class Model(NamedTuple):
    """The generator as functions of its parameters.

    forward(params, tokens [B T], positions [B T], mask [B T S], cache) -> (hidden
    [B T D], cache). unembed(params, hidden [*B D], token_ids [*B C] or None) -> logits
    [*B C], or [*B V] of the whole vocabulary. init_cache(batch, slots) -> an empty KV
    cache; its "length" [B] counts the slots in use and is set by the decoder.
    move_slots(cache, source [B P], target [B P]) -> the cache with slots copied.
    """

    forward: Callable
    unembed: Callable
    init_cache: Callable
    move_slots: Callable


@dataclasses.dataclass
class Request:
    """What one row asks of a call.

    length: cache slots in use. moved: slots whose contents are copied to the slots just
    before `length`, in order. tokens: the new ones; token i has the position
    length + depths[i] and is seen by the tokens i <= j < ends[i]. at, token_ids: the
    edges to score; edge e is the token token_ids[e] after the new token at[e].
    """

    length: int
    tokens: Sequence[int]
    depths: Sequence[int]
    ends: Sequence[int]
    at: Sequence[int]
    token_ids: Sequence[int] | Int[np.ndarray, " E"]
    moved: Sequence[int] = ()


class Answer(NamedTuple):
    """What a call says of one row's E edges.

    logits: of each edge's token. normalisers: ln of the summed exponentials of the
    whole vocabulary's logits at the same place; zeros unless they were asked for.
    """

    logits: Float[np.ndarray, " E"]
    normalisers: Float[np.ndarray, " E"]


@dataclasses.dataclass
class Cache:
    """The KV cache of a batch. It grows as its rows do."""

    batch: int
    slots: int = 0
    arrays: dict | None = None


class _Inputs(NamedTuple):
    """The requests of a batch as padded arrays."""

    moves: Int[Array | np.ndarray, "2 B P"]  # source and target slots
    lengths: Int[Array | np.ndarray, " B"]  # rows that are padding: all slots
    tokens: Int[Array | np.ndarray, "B T"]
    depths: Int[Array | np.ndarray, "B T"]
    ends: Int[Array | np.ndarray, "B T"]
    at: Int[Array | np.ndarray, "B E"]
    token_ids: Int[Array | np.ndarray, "B E"]


def call(
    model: Model,
    params,
    cache: Cache,
    requests: Sequence[Request | None],
    *,
    vocabulary: bool = False,
) -> list[Answer]:
    """Run the new tokens of a batch and score its edges.

    `requests[i]` belongs to batch row i. None and missing rows are padding. The keys
    and values of the new tokens are in the cache afterwards. vocabulary: compute the
    normalisers, too.
    """
    live = [request for request in requests if request is not None]
    _grow(model, cache, max(r.length + len(r.tokens) for r in live))
    inputs = _pad(requests, cache.batch, cache.slots)
    cache.arrays, logits, normalisers = run(
        model, params, cache.arrays, inputs, slots=cache.slots, vocabulary=vocabulary
    )
    logits, normalisers = jax.device_get((logits, normalisers))
    counts = [0 if request is None else len(request.at) for request in requests]
    return [
        Answer(logits[row, :n], normalisers[row, inputs.at[row, :n]])
        for row, n in enumerate(counts)
    ]


def _pad(requests: Sequence[Request | None], batch: int, slots: int) -> _Inputs:
    live = [request for request in requests if request is not None]
    T = padded_length(max(len(r.tokens) for r in live))
    most = max(len(r.at) for r in live)
    E = next((e for e in EDGES if e >= most), None) or next_power(most, EDGES[-1])
    # a write after the last slot is dropped
    lengths = np.full(batch, slots, np.int32)
    moves = np.full((2, batch, MOVES), slots, np.int32)
    tokens, depths, ends = np.zeros((3, batch, T), np.int32)
    at, token_ids = np.zeros((2, batch, E), np.int32)
    for row, r in enumerate(requests):
        if r is None:
            continue
        lengths[row] = r.length
        moves[0, row, : len(r.moved)] = r.moved
        moves[1, row, : len(r.moved)] = np.arange(r.length - len(r.moved), r.length)
        tokens[row, : len(r.tokens)] = r.tokens
        depths[row, : len(r.depths)] = r.depths
        ends[row, : len(r.ends)] = r.ends
        at[row, : len(r.at)] = r.at
        token_ids[row, : len(r.token_ids)] = r.token_ids
    return _Inputs(moves, lengths, tokens, depths, ends, at, token_ids)


def _grow(model: Model, cache: Cache, needed: int) -> None:
    """Give the cache slots for `needed` tokens a row, and keep what it holds."""
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
    model: Model, params, cache, inputs: _Inputs, *, slots: int, vocabulary: bool
) -> tuple[dict, Float[Array, "B E"], Float[Array, "B T"]]:
    """The jitted part of a call: cache, logits, normalisers (zeros unless wanted)."""
    lengths = inputs.lengths
    with jax.named_scope("settle"):
        cache = {**model.move_slots(cache, *inputs.moves), "length": lengths}
    mask = tree_mask(lengths, inputs.ends, slots)
    # Rows of padding start after the last slot, where the model has no position: an
    # out-of-range position embedding is NaN.
    positions = jnp.where(lengths < slots, lengths, 0)[:, None] + inputs.depths
    hidden, cache = model.forward(params, inputs.tokens, positions, mask, cache)
    with jax.named_scope("score"):
        behind = jnp.take_along_axis(hidden, inputs.at[..., None], axis=1)  # [B E D]
        logits = model.unembed(params, behind, inputs.token_ids[..., None])[..., 0]
        normalisers = jnp.zeros(inputs.tokens.shape)
        if vocabulary:
            normalisers = jax.lax.map(
                lambda h: jax.nn.logsumexp(model.unembed(params, h, None), axis=-1),
                jnp.moveaxis(hidden, 1, 0),  # a token of each row at a time
            ).T
    return cache, logits, normalisers


def tree_mask(
    lengths: Int[Array, " B"], ends: Int[Array, "B T"], slots: int
) -> Bool[Array, "B T S"]:
    """The mask of tree attention over the slots in use and the new tokens.

    A new token sees every slot in use, and the new token i iff i <= j < ends[i], where
    j is its own number: its ancestors and itself, for tokens in pre-order.

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
