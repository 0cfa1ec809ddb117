"""Small generators for the decoders, and their logits without a KV cache."""

import functools

import jax
import jax.numpy as jnp

from insgenel_jax import models
from insgenel_jax.decoding.forward import Model
from insgenel_jax.models.config import ModelConfig

LENGTH = 96  # tokens of a sequence that is run whole
AHEAD = 16  # sequences that are run whole at once


def small_config(vocabulary, family):
    return ModelConfig(
        family=family,
        vocabulary=vocabulary,
        dim=32,
        layers=2,
        heads=4,
        kv_heads=2 if family == "llama" else None,
        ffn=64,
        max_positions=512,
    )


@functools.cache  # the same functions for all parameters, so that all share programs
def small_functions(config):
    module = models.build(config)
    return Model(
        forward=lambda p, *args: module.apply({"params": p}, *args),
        unembed=functools.partial(models.unembed, config),
        init_cache=functools.partial(models.init_cache, config),
        move_slots=models.move_slots,
        tiles=models.Tiles,
    )


@functools.cache
def small_model(vocabulary, scale, family="llama", seed=0):
    """Random weights; a larger scale makes decisions clearer."""
    config = small_config(vocabulary, family)
    params = models.init_params(config, jax.random.key(seed))
    return small_functions(config), jax.tree.map(lambda p: p * scale, params)


@functools.cache
def whole(model):
    """Logits of the last of `length` tokens: the sequence run anew, without a cache."""

    @jax.jit
    def run(params, tokens, length):
        positions = jnp.arange(LENGTH)[None]
        mask = jnp.tril(jnp.ones((1, LENGTH, LENGTH), bool))
        hidden, _ = model.forward(params, tokens[None], positions, mask, None)
        return model.unembed(params, hidden[0, length - 1], None)

    return run


@functools.cache
def whole_batch(model):
    """`whole` of AHEAD sequences."""
    return jax.jit(jax.vmap(whole(model), in_axes=(None, 0, 0)))
