"""Attention under a boolean mask (True = attend), the masks, and the cache's writes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def attend(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B S K H"],
    value: Float[Array, "B S K H"],
    mask: Bool[Array, "B T S"],
) -> Float[Array, "B T N H"]:
    """Scaled dot-product attention; N / K query heads share one key head.

    The softmax is in float32. A query whose mask is all False gets the mean of the
    values: finite, in value and gradient, and of no meaning.
    """
    groups = query.shape[2] // key.shape[2]
    # heads to the front: on a CPU this halves the time that the products take
    query, key, value = (jnp.moveaxis(x, 2, 1) for x in (query, key, value))
    query = query.reshape(*key.shape[:2], groups, *query.shape[2:])  # [B K G T H]
    scores = jnp.einsum(
        "bkgth,bksh->bkgts", query, key, preferred_element_type=jnp.float32
    )
    scores = jnp.where(mask[:, None, None], scores * query.shape[-1] ** -0.5, -1e30)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    mixed = jnp.einsum("bkgts,bksh->bkgth", weights, value)
    return jnp.moveaxis(mixed.reshape(mixed.shape[0], -1, *mixed.shape[3:]), 1, 2)


def causal_mask(segments: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
    """Each token sees itself and what stands before it in its own segment.

    Segment 0 is padding: it sees nothing and is not seen.
        segments 1 1 2 2 0      1 . . . .
                                1 1 . . .
                                . . 1 . .
                                . . 1 1 .
                                . . . . .
    """
    order = jnp.arange(segments.shape[1])
    same = segments[:, :, None] == segments[:, None, :]
    return same & (order[:, None] >= order) & (segments > 0)[:, :, None]


def bidirectional_mask(segments: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
    """Each token sees all of its own segment; segment 0 (padding) is not seen."""
    return (segments[:, :, None] == segments[:, None, :]) & (segments > 0)[:, :, None]


def cached_mask(
    length: Int[Array, " B"],
    tokens: int,
    slots: int,
) -> Bool[Array, "B T S"]:
    """New token t of row b, written at slot length[b] + t, sees the slots up to its own.

    length 2, 3 new tokens, 6 slots:      1 1 1 . . .
                                          1 1 1 1 . .
                                          1 1 1 1 1 .
    Padding at the end of a chunk is harmless: no real token sees it, and once `length`
    is advanced by the real tokens alone the next chunk writes over it.
    """
    last = length[:, None] + jnp.arange(tokens)
    return jnp.arange(slots) <= last[:, :, None]


def extend_cache(
    cache: dict,
    layer: Int[Array, ""],
    key: Float[Array, "B T K H"],
    value: Float[Array, "B T K H"],
) -> tuple[dict, Float[Array, "B S K H"], Float[Array, "B S K H"]]:
    """Put row b's new keys and values of one layer at slots length[b] + arange(T).

    Writes past the last slot are dropped. -> cache, all the layer's keys and values.
    """
    rows = jnp.arange(key.shape[0])[:, None]
    slots = cache["length"][:, None] + jnp.arange(key.shape[1])
    whole = []
    for name, new in (("k", key), ("v", value)):
        # in place over all layers: a copy of one layer is all that is made
        at = cache[name].at[layer, rows, slots]
        cache = cache | {name: at.set(new.astype(cache[name].dtype), mode="drop")}
        one = jax.lax.dynamic_index_in_dim(cache[name], layer, keepdims=False)
        whole.append(one.astype(new.dtype))
    return cache, *whole
