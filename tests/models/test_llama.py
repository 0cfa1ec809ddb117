"""The decoder: cache, causality, packing, scan, remat, dropout, and its logits."""

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models import attention, layers, llama
from tests.models.tiny import LLAMA, cached_mask, random_params

CONFIG = dataclasses.replace(LLAMA, layers=3)
PARAMS = jax.tree.map(jnp.asarray, random_params(CONFIG))
ROWS, LENGTH = 3, 11
TOKENS = np.random.default_rng(0).integers(0, CONFIG.vocabulary, (ROWS, LENGTH))
POSITIONS = np.tile(np.arange(LENGTH), (ROWS, 1))
CAUSAL = np.tril(np.ones((LENGTH, LENGTH), bool))[None].repeat(ROWS, 0)


@functools.partial(jax.jit, static_argnums=0)
def forward(config, params, tokens, positions, mask, cache=None):
    module = models.build(config)
    return module.apply({"params": params}, tokens, positions, mask, cache)


@functools.partial(jax.jit, static_argnums=0)
def differentiate(config, params, tokens, positions, segments, weights):
    """The gradient of (hidden * weights).sum(), and hidden."""

    def weigh(params):
        mask = attention.causal_mask(segments)
        hidden, _ = forward(config, params, tokens, positions, mask)
        return (hidden * weights).sum(), hidden

    return jax.grad(weigh, has_aux=True)(params)


@functools.cache
def recomputed():
    hidden, cache = forward(CONFIG, PARAMS, TOKENS, POSITIONS, CAUSAL)
    assert cache is None
    return hidden


def test_token_by_token():
    """A cached decode equals a full recompute."""
    cache = models.init_cache(CONFIG, ROWS, LENGTH + 2)
    for t in range(LENGTH):
        mask = cached_mask(cache["length"], 1, LENGTH + 2)
        now = slice(t, t + 1)
        hidden, cache = forward(
            CONFIG, PARAMS, TOKENS[:, now], POSITIONS[:, now], mask, cache
        )
        np.testing.assert_array_equal(cache["length"], t)  # the caller's to advance
        cache["length"] += 1
        np.testing.assert_allclose(hidden[:, 0], recomputed()[:, t], atol=1e-5)


def test_ragged_chunks():
    """Each row takes 0 to 4 tokens a call, the rest of the chunk is padding.

    The cache has no slot to spare: padding runs over its end.
    """
    rng = np.random.default_rng(1)
    cache = models.init_cache(CONFIG, ROWS, LENGTH)
    seen, done = np.zeros((ROWS, LENGTH, CONFIG.dim)), np.zeros(ROWS, int)
    while (done < LENGTH).any():
        take = np.minimum(rng.integers(0, 5, ROWS), LENGTH - done)
        tokens = rng.integers(0, CONFIG.vocabulary, (ROWS, 4))
        for row in range(ROWS):
            tokens[row, : take[row]] = TOKENS[row, done[row] : done[row] + take[row]]
        hidden, cache = forward(
            CONFIG,
            PARAMS,
            tokens,
            done[:, None] + np.arange(4),
            cached_mask(cache["length"], 4, LENGTH),
            cache,
        )
        for row in range(ROWS):
            seen[row, done[row] : done[row] + take[row]] = hidden[row, : take[row]]
        done += take
        cache["length"] += take
    np.testing.assert_allclose(seen, recomputed(), atol=1e-5)


def test_causality_by_gradient():
    """What stands at t moves t and what follows, nothing before it."""
    tokens = np.arange(2 * LENGTH).reshape(2, LENGTH)  # each token in one place
    positions = POSITIONS[:2]
    segments = np.stack([np.ones(LENGTH, int), np.zeros(LENGTH, int)])
    moved = []
    for t in range(LENGTH):
        weights = np.zeros((2, LENGTH, CONFIG.dim), np.float32)
        weights[0, t] = np.arange(CONFIG.dim)
        inputs = tokens, positions, segments, weights
        gradients, _ = differentiate(CONFIG, PARAMS, *inputs)
        moved.append(np.abs(gradients["embed"]["embedding"]).sum(-1) > 0)
    np.testing.assert_array_equal(np.array(moved)[:, :LENGTH], CAUSAL[0])
    assert not np.array(moved)[:, LENGTH:].any()


def test_packed_is_apart():
    """Two documents in one row: hidden states and gradients as in a row each.

    packed  a a a a a a b b b b .      apart  a a a a a a . . . . .
            . . . . . . . . . . .             b b b b . . . . . . .
    """
    weights = np.random.default_rng(2).normal(size=(10, CONFIG.dim)).astype(np.float32)

    def lay(*rows):
        """Documents as (first, size) of TOKENS[0], laid out in two rows."""
        tokens, positions, segments = np.zeros((3, 2, LENGTH), np.int32)
        weighed = np.zeros((2, LENGTH, CONFIG.dim), np.float32)
        for row, documents in enumerate(rows):
            start = 0
            for number, (first, size) in enumerate(documents, 1):
                own, here = slice(first, first + size), slice(start, start + size)
                tokens[row, here] = TOKENS[0, own]
                positions[row, here] = np.arange(size)
                segments[row, here] = number
                weighed[row, here] = weights[own]
                start += size
        return tokens, positions, segments, weighed

    packed = differentiate(CONFIG, PARAMS, *lay([(0, 6), (6, 4)], []))
    apart = differentiate(CONFIG, PARAMS, *lay([(0, 6)], [(6, 4)]))
    np.testing.assert_allclose(packed[1][0, :6], apart[1][0, :6], atol=1e-5)
    np.testing.assert_allclose(packed[1][0, 6:10], apart[1][1, :4], atol=1e-5)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3, rtol=1e-4),
        packed[0],
        apart[0],
    )


def test_scan_is_a_loop():
    """The layers one by one, each with its slice of the stacked parameters."""
    x = PARAMS["embed"]["embedding"][TOKENS]
    shared = layers.rotary_angles(CONFIG, POSITIONS), CAUSAL
    layer = jax.jit(llama.Layer(CONFIG, deterministic=True).apply)
    for number in range(CONFIG.layers):
        own = jax.tree.map(operator.itemgetter(number), PARAMS["layers"])
        (x, _), _ = layer({"params": own}, (x, None), number, shared)
    x = layers.RMSNorm(CONFIG).apply({"params": PARAMS["norm"]}, x)
    np.testing.assert_allclose(x, recomputed(), atol=1e-5)


def test_remat():
    """The same values and gradients from ever more products done twice."""
    weights = np.random.default_rng(3).normal(size=(2, LENGTH, CONFIG.dim))
    segments = np.ones((2, LENGTH), int)
    inputs = TOKENS[:2], POSITIONS[:2], segments, weights.astype(np.float32)
    results, products = {}, {}
    for remat in ("none", "dots", "full"):
        config = dataclasses.replace(CONFIG, remat=remat)
        step = functools.partial(differentiate, config)
        results[remat] = step(PARAMS, *inputs)
        products[remat] = str(jax.make_jaxpr(step)(PARAMS, *inputs)).count(
            "dot_general"
        )
    assert products["none"] < products["dots"] < products["full"]
    for remat in ("dots", "full"):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4),
            results[remat],
            results["none"],
        )


def test_dropout():
    """Off unless asked for; other keys, other values."""
    config = dataclasses.replace(CONFIG, dropout=0.2)
    module = models.build(config)

    @jax.jit
    def drop(key):
        inputs = TOKENS, POSITIONS, CAUSAL
        hidden, _ = module.apply(
            {"params": PARAMS}, *inputs, deterministic=False, rngs={"dropout": key}
        )
        return hidden

    plain, _ = forward(config, PARAMS, TOKENS, POSITIONS, CAUSAL)
    np.testing.assert_allclose(plain, recomputed(), atol=1e-6)
    first, again = drop(jax.random.key(1)), drop(jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - drop(jax.random.key(2))).max() > 0.1
    assert np.abs(first - plain).max() > 0.1


def test_dropout_places():
    """All is dropped: nothing is left of the embedding, attention and the MLP."""
    config = dataclasses.replace(CONFIG, dropout=1 - 1e-7)
    drop = {"deterministic": False, "rngs": {"dropout": jax.random.key(0)}}
    inputs = TOKENS, POSITIONS, CAUSAL
    hidden, _ = models.build(config).apply({"params": PARAMS}, *inputs, **drop)
    assert not hidden.any()
    own = jax.tree.map(operator.itemgetter(0), PARAMS["layers"])
    shared = layers.rotary_angles(CONFIG, POSITIONS), CAUSAL
    layer = llama.Layer(config, deterministic=False)
    x = np.ones((ROWS, LENGTH, CONFIG.dim), np.float32)
    (y, _), _ = layer.apply({"params": own}, (x, None), 0, shared, rngs=drop["rngs"])
    np.testing.assert_array_equal(y, x)


def test_bfloat16():
    """Computes in bf16 over fp32 parameters, near the fp32 result; logits are fp32."""
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    hidden, _ = forward(config, PARAMS, TOKENS, POSITIONS, CAUSAL)
    assert hidden.dtype == jnp.bfloat16
    np.testing.assert_allclose(hidden.astype(np.float32), recomputed(), atol=0.15)
    logits = models.unembed(config, PARAMS, hidden)
    assert logits.dtype == jnp.float32
    cache = models.init_cache(config, ROWS, LENGTH)
    again, cache = forward(config, PARAMS, TOKENS, POSITIONS, CAUSAL, cache)
    assert cache["k"].dtype == jnp.bfloat16
    np.testing.assert_allclose(
        again.astype(np.float32), hidden.astype(np.float32), atol=0.1
    )


@pytest.mark.parametrize("tied", [False, True])
def test_unembed(tied):
    """Logits of given tokens are those of the whole vocabulary at these places."""
    config = dataclasses.replace(CONFIG, tie_embeddings=tied)
    own = random_params(config)
    assert ("unembed" in own) != tied
    table = own["embed"]["embedding"] if tied else own["unembed"]
    hidden = np.array(recomputed())
    whole = models.unembed(config, own, hidden)
    np.testing.assert_allclose(whole, hidden @ np.array(table).T, atol=1e-5)
    ids = np.random.default_rng(4).integers(0, 64, (ROWS, LENGTH, 5))
    some = models.unembed(config, own, hidden, ids)
    np.testing.assert_allclose(some, np.take_along_axis(whole, ids, -1), atol=1e-6)
    flat = models.unembed(config, own, hidden[:, 0], ids[:, 0])
    np.testing.assert_allclose(flat, some[:, 0], atol=1e-6)


def test_parameters():
    """Initialised alike by one key; shapes known without computing any."""
    config = dataclasses.replace(CONFIG, param_dtype="bfloat16")
    abstract = models.abstract_params(config)
    one = models.init_params(config, jax.random.key(0))
    two = models.init_params(config, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), one) == jax.tree.map(
        lambda x: (x.shape, x.dtype), abstract
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(one)} == {jnp.bfloat16.dtype}
    kernel = np.array(one["layers"]["mlp"]["up"]["kernel"], np.float32)
    assert np.abs(kernel[0] - kernel[1]).max() > 0.01  # layers differ
