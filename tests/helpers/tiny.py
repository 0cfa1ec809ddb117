"""Configs of models with a few thousand parameters, and random parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from insgenel_jax import models
from insgenel_jax.models.config import ModelConfig

LLAMA = ModelConfig(
    "llama",
    vocabulary=64,
    dim=24,
    layers=2,
    heads=4,
    kv_heads=2,
    ffn=40,
    max_positions=64,
)
WINDOWED = dataclasses.replace(
    LLAMA, qkv_bias=True, sliding_window=3, window_from=1, layers=3
)
OPT = ModelConfig(
    "opt", vocabulary=64, dim=24, layers=2, heads=4, ffn=40, max_positions=64
)
OPT_350M = dataclasses.replace(
    OPT, pre_norm=False, embed_dim=12, tie_embeddings=True, layers=3
)
BERT = ModelConfig(
    "bert", vocabulary=64, dim=24, layers=2, heads=4, ffn=40, max_positions=64
)


def random_params(config: ModelConfig) -> dict:
    """So large that attention is far from uniform; norms and biases random too."""
    leaves, tree = jax.tree.flatten(models.abstract_params(config))
    rng = np.random.default_rng(0)
    return tree.unflatten(
        [rng.normal(0.1, 0.2, x.shape).astype(x.dtype) for x in leaves]
    )


def cached_mask(length, tokens: int, slots: int):
    """The mask [B tokens slots] with which the decoder runs new tokens over a cache.

    New token t of row b goes to slot length[b] + t and sees the slots up to its own.
    length 2, 3 new tokens, 6 slots:      1 1 1 . . .
                                          1 1 1 1 . .
                                          1 1 1 1 1 .
    Padding behind the new tokens is harmless: no real token sees it, and `length` is
    advanced by the real tokens alone, so that the next tokens overwrite it.
    """
    last = length[:, None] + jnp.arange(tokens)
    return jnp.arange(slots) <= last[:, :, None]
