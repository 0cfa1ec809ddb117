"""One model call: new tokens of many rows in, logits of chosen edges out.

The decoders that loop on the host, `tree` and `speculative`, ask the model through
`send` and `read`: what the host does between the two, it does while the device works.
The rows' tokens are packed without padding between them (see packing). The shapes are
static and come from few series, so that few programs compile, and the KV cache is
donated from each call to the next.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.decoding.packing import (
    PAGE,
    QUERIES,
    Inputs,
    Pool,
    Request,
    Seat,
    pack,
    pages_of,
    pool_slots,
)

TOGETHER = 16  # tokens whose logits of the whole vocabulary are formed at once


class Model(NamedTuple):
    """The generator as functions of its parameters.

    forward(params, tokens [B T], positions [B T], mask, cache) -> (hidden [B T D],
    cache). unembed(params, hidden [*B D], token_ids [*B C] or None) -> logits [*B C],
    or [*B V] of the whole vocabulary. init_cache(batch, slots) -> an empty KV cache;
    its "length" [B] counts the slots in use and is set by the decoder.
    move_slots(cache, source [B P], target [B P]) -> the cache with slots copied.

    The mask is [B T S], or, for packed rows, what tiles(pages, tokens, seen, place,
    page) makes of the fields of models.tiles.Tiles; then the cache has "slots" [B T] to
    write to, in place of "length". apart: `forward` is several programs and must not be
    traced into one; "layers" of the parameters are for it alone. within(): a context
    for packed calls, of a mesh; what the host does between them is outside of it.
    """

    forward: Callable
    unembed: Callable
    init_cache: Callable
    move_slots: Callable
    tiles: Callable | None = None
    apart: bool = False
    within: Callable = contextlib.nullcontext


class Answer(NamedTuple):
    """What a call says of one row's E edges.

    logits: of each edge's token. normalisers: ln of the summed exponentials of the
    whole vocabulary's logits at the same place; zeros unless they were asked for.
    """

    logits: Float[np.ndarray, " E"]
    normalisers: Float[np.ndarray, " E"]


class Cache:
    """The KV caches of D packs: pools of pages that grow as rows need them."""

    def __init__(self, packs: int) -> None:
        self.pools = [Pool() for _ in range(packs)]
        self.slots = 0
        self.arrays: dict | None = None


class Sent(NamedTuple):
    """A call under way: its arrays on the device, and where each row's edges stand.

    tokens: that it runs, with padding.
    """

    logits: Float[Array, "D E"]
    normalisers: Float[Array, "D N"]
    at: Int[np.ndarray, "D E"]
    edges: list[tuple[int, slice]]
    tokens: int


def send(
    model: Model,
    params,
    cache: Cache,
    asked: Sequence[tuple[Seat, Request]],
    *,
    vocabulary: bool = False,
) -> Sent:
    """Begin a call that runs the new tokens of rows and scores their edges.

    Seats get the pages that they need. The keys and values of the new tokens are in the
    cache afterwards. vocabulary: compute the normalisers, too.
    """
    for seat, request in asked:
        needed = pages_of(request.length + len(request.tokens))
        pool = cache.pools[seat.pack]
        seat.pages += [pool.take() for _ in range(needed - len(seat.pages))]
    packs = len(cache.pools)
    slots = pool_slots(max(pool.made for pool in cache.pools))
    inputs, edges = pack(asked, packs, max(slots, cache.slots))
    with model.within():
        if slots > cache.slots:
            cache.arrays = _beside(params, _copy(model, cache.arrays, packs, slots))
            cache.slots = slots
        cache.arrays, logits, normalisers = run(
            model, params, cache.arrays, inputs, vocabulary=vocabulary
        )
    return Sent(logits, normalisers, inputs.at, edges, inputs.tokens.size)


def read(sent: Sent) -> list[Answer]:
    """Wait for a call: an answer for each of its requests, in order."""
    logits, normalisers = jax.device_get((sent.logits, sent.normalisers))
    return [
        Answer(logits[d, edges], normalisers[d, sent.at[d, edges]])
        for d, edges in sent.edges
    ]


@functools.partial(jax.jit, static_argnames=("model", "packs", "slots"))
def _copy(model: Model, old: dict | None, packs: int, slots: int) -> dict:
    new = model.init_cache(packs, slots)
    new = {name: new[name] for name in sorted(new.keys() - {"length"})}
    if old is None:
        return new
    return jax.tree.map(
        lambda new, old: jax.lax.dynamic_update_slice(new, old, (0,) * old.ndim),
        new,
        old,
    )


def _beside(params, cache: dict) -> dict:
    """A new cache, bound to the device of the parameters, where there is no mesh.

    So are the caches that calls give back: otherwise a program would be compiled twice,
    for a new cache and for those after it. Parameters that are numpy arrays are on no
    device: the cache stays as it is.
    """
    place = getattr(jax.tree.leaves(params)[0], "sharding", None)
    meshless = isinstance(place, jax.sharding.SingleDeviceSharding)
    return jax.device_put(cache, place) if meshless else cache


def run(
    model: Model, params, cache: dict, inputs: Inputs, *, vocabulary: bool
) -> tuple[dict, Float[Array, "D E"], Float[Array, "D N"]]:
    """The part of a call on the device: cache, logits, normalisers (zeros unless
    wanted). The cache given is used up."""
    if not model.apart:
        return run_whole(model, params, cache, inputs, vocabulary=vocabulary)
    cache, mask = settle_apart(model, cache, inputs)
    hidden, cache = model.forward(params, inputs.tokens, inputs.positions, mask, cache)
    del cache["slots"]
    rest = {name: tree for name, tree in params.items() if name != "layers"}
    return cache, *score_apart(model, rest, hidden, inputs, vocabulary=vocabulary)


@functools.partial(
    jax.jit, static_argnames=("model", "vocabulary"), donate_argnames=("cache",)
)
def run_whole(
    model: Model, params, cache: dict, inputs: Inputs, *, vocabulary: bool
) -> tuple[dict, Float[Array, "D E"], Float[Array, "D N"]]:
    """`run` as one program."""
    cache, mask = settle(model, cache, inputs)
    hidden, cache = model.forward(params, inputs.tokens, inputs.positions, mask, cache)
    kept = {name: cache[name] for name in sorted(cache.keys() - {"slots"})}
    return kept, *score(model, params, hidden, inputs, vocabulary=vocabulary)


def settle(model: Model, cache: dict, inputs: Inputs) -> tuple[dict, object]:
    """The cache with slots moved, ready for the new tokens, and their mask."""
    with jax.named_scope("settle"):
        cache = {**model.move_slots(cache, *inputs.moves), "slots": inputs.slots}
        first, begin = inputs.first[..., None], inputs.begin[..., None]
        last = jnp.maximum(inputs.count[..., None] - 1, 0)
        queries = first + jnp.minimum(begin + jnp.arange(QUERIES), last)
        mask = model.tiles(inputs.pages, queries, tree_mask(inputs), inputs.place, PAGE)
    return cache, mask


def score(
    model: Model,
    params,
    hidden: Float[Array, "D N X"],
    inputs: Inputs,
    *,
    vocabulary: bool,
) -> tuple[Float[Array, "D E"], Float[Array, "D N"]]:
    """Logits of the edges, and normalisers (zeros unless wanted)."""
    with jax.named_scope("score"):
        behind = jnp.take_along_axis(hidden, inputs.at[..., None], axis=1)  # [D E X]
        logits = model.unembed(params, behind, inputs.token_ids[..., None])[..., 0]
        normalisers = jnp.zeros(inputs.tokens.shape)
        if vocabulary:
            normalisers = jax.lax.map(
                lambda h: jax.nn.logsumexp(model.unembed(params, h, None), axis=-1),
                jnp.moveaxis(hidden, 1, 0),  # a token of each pack
                batch_size=TOGETHER,
            ).T
    return logits, normalisers


settle_apart = jax.jit(settle, static_argnames="model", donate_argnames="cache")
score_apart = jax.jit(score, static_argnames=("model", "vocabulary"))


def tree_mask(inputs: Inputs) -> Bool[Array, "D G Q W"]:
    """The mask of tree attention, for each tile over the slots of its row.

    A new token sees every slot in use, and the new token i of its row iff
    i <= j < ends[i], where j is its own number there: its ancestors and itself, for
    tokens in pre-order.

    length 2, ends 5 3 3 5 5:     1 1 1 . . . .
    (0 above 1 and 3,             1 1 1 1 . . .
     1 above 2, 3 above 4)        1 1 1 1 1 . .
                                  1 1 1 . . 1 .
                                  1 1 1 . . 1 1
    """
    slots = inputs.pages.shape[2] * PAGE
    i = jnp.arange(slots) - inputs.length[..., None]  # [D G W] the new token in a slot
    last = jnp.maximum(inputs.count[..., None] - 1, 0)
    token = inputs.first[..., None] + jnp.clip(i, 0, last)
    end = jax.vmap(lambda ends, at: ends[at])(inputs.ends, token)
    i, end = i[:, :, None], end[:, :, None]
    j = (inputs.begin[..., None] + jnp.arange(QUERIES))[..., None]  # [D G Q 1]
    return (i < 0) | ((i <= j) & (j < end))
