"""The KV cache: its arrays, where a model writes new keys and values, moving slots.

A cache is a dict: k, v [L B S K H]; length [B], the number of slots in use of each row;
and with a sliding window positions [B S], the position of the token in each slot. The
caller of a model advances `length`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from insgenel_jax import sharding
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.sharding import AnyArray, Axes

# Leaf of a cache -> logical axes (sharding.py places them on the mesh).
CACHE_AXES: Axes = {
    "k": ("layers", "batch", None, "kv_heads", None),
    "v": ("layers", "batch", None, "kv_heads", None),
    "length": ("batch",),
    "positions": ("batch", None),
}


def init_cache(
    config: ModelConfig, batch: int, slots: int, dtype: str | None = None
) -> dict[str, Array]:
    """An empty cache of `batch` rows with `slots` slots each.

    dtype: of the keys and values; the model's compute dtype if left out.
    """
    shape = (config.layers, batch, slots, config.kv_heads, config.head_dim)
    dtype = dtype or config.dtype
    cache = {
        "k": jnp.zeros(shape, dtype),
        "v": jnp.zeros(shape, dtype),
        "length": jnp.zeros(batch, jnp.int32),
    }
    if config.sliding_window is not None:
        cache["positions"] = jnp.zeros((batch, slots), jnp.int32)
    return cache


def cache_shardings(cache: dict, mesh: Mesh) -> dict:
    """A NamedSharding for every leaf of a cache (or of its shapes).

    Raises ValueError when the mesh does not divide the rows or the key heads.
    """
    return sharding.shardings(cache, CACHE_AXES, mesh)


def extend_cache(
    cache: dict,
    layer: Int[AnyArray, ""] | int,
    key: Float[AnyArray, "B T K H"],
    value: Float[AnyArray, "B T K H"],
) -> tuple[dict, Float[Array, "B S K H"], Float[Array, "B S K H"]]:
    """Write row b's new keys and values of one layer to slots length[b] + arange(T).

    Where the cache has "slots" [B T], they are written there. Writes past the last slot
    are dropped. Returns the cache and all keys and values of the layer. A cache of one
    layer takes any number for it (models.apart).
    """
    rows, slots = _new_slots(cache, key.shape[1])
    layer = 0 if len(cache["k"]) == 1 else layer
    whole = []
    for name, new in (("k", key), ("v", value)):
        # written in place into the array of all layers: only one layer is ever copied
        at = cache[name].at[layer, rows, slots]
        cache = cache | {name: at.set(new.astype(cache[name].dtype), mode="drop")}
        one = jax.lax.dynamic_index_in_dim(cache[name], layer, keepdims=False)
        whole.append(one.astype(new.dtype))
    return cache, *whole


def extend_positions(
    cache: dict, positions: Int[AnyArray, "B T"]
) -> tuple[dict, Int[Array, "B S"]]:
    """Write the new tokens' positions to the slots that `extend_cache` writes to.

    Returns the cache and the positions of all slots. A slot's number is not its
    position: tree attention puts the nodes of a tree in consecutive slots, at positions
    that are their depths.
    """
    rows, slots = _new_slots(cache, positions.shape[1])
    everywhere = cache["positions"].at[rows, slots].set(positions, mode="drop")
    return cache | {"positions": everywhere}, everywhere


def _new_slots(
    cache: dict, tokens: int
) -> tuple[Int[Array, "B 1"], Int[AnyArray, "B {tokens}"]]:
    """Row and slot of each new token, as an index into [B S]."""
    slots = cache.get("slots")
    if slots is None:
        slots = cache["length"][:, None] + jnp.arange(tokens)
    return jnp.arange(slots.shape[0])[:, None], slots


def move_slots(
    cache: dict, source: Int[AnyArray, "B P"], target: Int[AnyArray, "B P"]
) -> dict:
    """Copy slots source[b] of row b to slots target[b]: keys, values and positions.

    A target past the last slot is dropped.
    """
    rows, moved = jnp.arange(source.shape[0])[:, None], {}
    # sorted: the order is part of the compiled program, by which JAX's cache finds it
    for name in sorted(cache.keys() - {"length", "slots"}):
        leading = (slice(None),) * CACHE_AXES[name].index("batch")
        kept = cache[name].at[*leading, rows, source].get(mode="clip")
        moved[name] = cache[name].at[*leading, rows, target].set(kept, mode="drop")
    return cache | moved
