"""Masks and random arrays for the tests of attention and of its backends."""

import jax
import jax.numpy as jnp
import numpy as np

from insgenel_jax.models.attention import Mask, causal_mask

RNG = np.random.default_rng(0)
TOKENS = 384  # three tiles of splash attention
LENGTHS = np.array([TOKENS, 130])
SEGMENTS = np.repeat([[1, 2, 3, 0], [1, 2, 0, 0]], [100, 60, 150, 74], axis=1)
MASKS = {
    "causal": Mask(causal=True),
    "all": Mask(),
    "causal, lengths": Mask(causal=True, lengths=LENGTHS),
    "lengths": Mask(lengths=LENGTHS),
    "causal, segments": causal_mask(SEGMENTS),
    "segments": Mask(segments=SEGMENTS),
    "segments, lengths": Mask(segments=SEGMENTS, lengths=LENGTHS),
}


def normal(*shape):
    """Normal numbers in float32."""
    return RNG.normal(size=shape).astype(np.float32)


def inputs(tokens=TOKENS):
    """Queries of four heads, keys and values of two."""
    return tuple(normal(2, tokens, heads, 64) for heads in (4, 2, 2))


def shapes(queries=TOKENS, keys=TOKENS, size=64, dtype=jnp.bfloat16):
    """The shapes of queries of four heads and of keys of two."""
    return tuple(
        jax.ShapeDtypeStruct((2, tokens, heads, size), dtype)
        for tokens, heads in ((queries, 4), (keys, 2))
    )
