"""Models: build one, make its parameters and cache, turn hidden states into logits."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from insgenel_jax import sharding
from insgenel_jax.models import bert, llama, lora, opt
from insgenel_jax.models.config import ModelConfig

_MODULES = {"opt": opt.Opt, "llama": llama.Llama, "bert": bert.Bert}
# Parameter path -> logical axes, of each family; leaf of a cache -> logical axes.
AXES = {"opt": opt.AXES, "llama": llama.AXES, "bert": bert.AXES}
CACHE_AXES = {
    "k": ("layers", "batch", None, "kv_heads", None),
    "v": ("layers", "batch", None, "kv_heads", None),
    "length": ("batch",),
    "positions": ("batch", None),
}


def build(config: ModelConfig) -> nn.Module:
    """The module: apply({"params": p}, tokens, positions, mask, cache) -> hidden, cache."""
    return _MODULES[config.family](config)


def init_params(config: ModelConfig, key: PRNGKeyArray, shardings=None) -> dict:
    """Fresh parameters, born in `shardings` when those are given."""
    return jax.jit(_init, static_argnums=0, out_shardings=shardings)(config, key)


def init_lora(config: ModelConfig, key: PRNGKeyArray, shardings=None) -> dict:
    """Fresh LoRA leaves alone, for `lora.join` with the parameters of a base.

    Raises ValueError when `config.lora` names a projection that the family lacks.
    """
    abstract = lora.split(abstract_params(config))[0]
    found = {path[-2].key for path, _ in jax.tree.leaves_with_path(abstract)}
    if unknown := sorted(set(config.lora.targets) - found):
        raise ValueError(f"LoRA targets {unknown}: {config.family!r} has no such maps")
    # what only the base needs is dropped by the compiler
    init = jax.jit(
        lambda key: lora.split(_init(config, key))[0], out_shardings=shardings
    )
    return init(key)


def abstract_params(config: ModelConfig) -> dict:
    """The parameters' shapes and dtypes; nothing is computed."""
    return jax.eval_shape(lambda key: _init(config, key), jax.random.key(0))


def count(params: dict) -> int:
    """How many parameters there are."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def param_shardings(config: ModelConfig, mesh: Mesh) -> dict:
    """A NamedSharding for every parameter, by its family's table of logical axes."""
    abstract = abstract_params(config)
    axes = lora.add_rows(AXES[config.family], abstract)
    return sharding.shardings(abstract, axes, mesh)


def cache_shardings(cache: dict, mesh: Mesh) -> dict:
    """A NamedSharding for every leaf of a cache (or of its shapes)."""
    return sharding.shardings(cache, CACHE_AXES, mesh)


def init_cache(config: ModelConfig, batch: int, slots: int, dtype=None) -> dict:
    """An empty cache: k, v [L B S K H] and the slots in use of each row, [B].

    With a sliding window also the position of the token in each slot, [B S]: who moves
    keys from slot to slot moves these too.
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


def move_slots(
    cache: dict, source: Int[Array, "B P"], target: Int[Array, "B P"]
) -> dict:
    """Copy what slots source[b] of row b hold to slots target[b].

    A target past the last slot is dropped.
    """
    rows, moved = jnp.arange(source.shape[0])[:, None], {}
    for name in cache.keys() - {"length"}:
        batch = (slice(None),) * CACHE_AXES[name].index("batch")
        kept = cache[name].at[*batch, rows, source].get(mode="clip")
        moved[name] = cache[name].at[*batch, rows, target].set(kept, mode="drop")
    return cache | moved


def unembed(
    config: ModelConfig,
    params: dict,
    hidden: Float[Array, "*B D"],
    token_ids: Int[Array, "*B C"] | None = None,
) -> Float[Array, "*B V"] | Float[Array, "*B C"]:
    """Logits in float32, of the whole vocabulary or of `token_ids` alone.

    hidden [B T D] goes with ids [B T C], hidden [B D] with ids [B C].
    """
    rows = params["embed"]["embedding"] if config.tie_embeddings else params["unembed"]
    with jax.named_scope("unembed"):
        if token_ids is None:
            rows, form = rows.astype(config.dtype), "...d,vd->...v"
        else:
            rows, form = rows[token_ids].astype(config.dtype), "...d,...cd->...c"
        hidden = hidden.astype(config.dtype)
        return jnp.einsum(form, hidden, rows, preferred_element_type=jnp.float32)


def _init(config: ModelConfig, key: PRNGKeyArray) -> dict:
    one = jnp.zeros((1, 1), jnp.int32)
    # parameters do not depend on the backend, which might not run here or on this shape
    config = dataclasses.replace(config, attention="auto")
    return build(config).init(key, one, one, jnp.ones((1, 1, 1), bool))["params"]
