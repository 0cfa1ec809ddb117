"""Models of a few thousand parameters, no two of them alike."""

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
    """Large enough that attention is far from uniform; norms and biases random too."""
    leaves, tree = jax.tree.flatten(models.abstract_params(config))
    rng = np.random.default_rng(0)
    return tree.unflatten(
        [rng.normal(0.1, 0.2, x.shape).astype(x.dtype) for x in leaves]
    )


def cached_mask(length, tokens: int, slots: int):
    """As the decoder does: new token t of row b, at slot length[b] + t, sees the slots
    up to its own. [B tokens slots]

    length 2, 3 new tokens, 6 slots:      1 1 1 . . .
                                          1 1 1 1 . .
                                          1 1 1 1 1 .
    Padding at the end of a chunk is harmless: no real token sees it, and once `length`
    is advanced by the real tokens alone the next chunk writes over it.
    """
    last = length[:, None] + jnp.arange(tokens)
    return jnp.arange(slots) <= last[:, :, None]
