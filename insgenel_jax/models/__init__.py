"""Models: build one, make its parameters and cache, turn hidden states into logits."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray

from insgenel_jax import sharding
from insgenel_jax.models import bert, llama, opt
from insgenel_jax.models.config import ModelConfig

_MODULES = {"opt": opt.Opt, "llama": llama.Llama, "bert": bert.Bert}
_AXES = {"opt": opt.AXES, "llama": llama.AXES, "bert": bert.AXES}


def build(config: ModelConfig) -> nn.Module:
    """The module: apply({"params": p}, tokens, positions, mask, cache) -> hidden, cache."""
    return _MODULES[config.family](config)


def init_params(config: ModelConfig, key: PRNGKeyArray, shardings=None) -> dict:
    """Fresh parameters, born in `shardings` when those are given."""
    return jax.jit(_init, static_argnums=0, out_shardings=shardings)(config, key)


def abstract_params(config: ModelConfig) -> dict:
    """The parameters' shapes and dtypes; nothing is computed."""
    return jax.eval_shape(lambda key: _init(config, key), jax.random.key(0))


def param_shardings(config: ModelConfig, mesh: Mesh) -> dict:
    """A NamedSharding for every parameter, by its family's table of logical axes."""
    return sharding.shardings(abstract_params(config), _AXES[config.family], mesh)


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
    """Copy keys and values of row b from slots source[b] to slots target[b].

    A target past the last slot is dropped.
    """
    rows = jnp.arange(source.shape[0])[:, None]
    moved = {}
    for name in ("k", "v"):
        kept = cache[name].at[:, rows, source].get(mode="clip")
        moved[name] = cache[name].at[:, rows, target].set(kept, mode="drop")
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
    return build(config).init(key, one, one, jnp.ones((1, 1, 1), bool))["params"]
