"""The decoders: KV cache, causality, packing, nn.scan, remat, dropout, logits."""

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models import attention, layers, llama, opt
from tests.helpers import tiny
from tests.helpers.marks import slow
from tests.helpers.tiny import LLAMA, OPT, OPT_350M, WINDOWED, random_params

CONFIG = dataclasses.replace(LLAMA, layers=3)
PARAMS = jax.tree.map(jnp.asarray, random_params(CONFIG))
EACH = pytest.mark.parametrize(
    "config",
    [CONFIG, WINDOWED, slow(OPT), OPT_350M],  # in the latter more is unusual
    ids=["llama", "windowed", "opt", "opt-350m"],
)
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
def params_of(config):
    return jax.tree.map(jnp.asarray, random_params(config))


@functools.cache
def recomputed(config=CONFIG):
    hidden, cache = forward(config, params_of(config), TOKENS, POSITIONS, CAUSAL)
    assert cache is None
    return hidden


@EACH
def test_token_by_token(config):
    """Token by token through the cache equals all tokens at once."""
    cache = models.init_cache(config, ROWS, LENGTH + 2)
    for t in range(LENGTH):
        mask = tiny.cached_mask(cache["length"], 1, LENGTH + 2)
        now = slice(t, t + 1)
        hidden, cache = forward(
            config, params_of(config), TOKENS[:, now], POSITIONS[:, now], mask, cache
        )
        np.testing.assert_array_equal(cache["length"], t)  # advanced by the caller
        cache["length"] += 1
        np.testing.assert_allclose(hidden[:, 0], recomputed(config)[:, t], atol=1e-5)


@EACH
def test_ragged_chunks(config):
    """Each row takes 0 to 4 tokens a call; the rest of the four is padding.

    The cache has no slot to spare, so that padding is written past its end.
    """
    rng = np.random.default_rng(1)
    cache = models.init_cache(config, ROWS, LENGTH)
    seen, done = (
        np.zeros((ROWS, LENGTH, recomputed(config).shape[-1])),
        np.zeros(ROWS, int),
    )
    while (done < LENGTH).any():
        take = np.minimum(rng.integers(0, 5, ROWS), LENGTH - done)
        tokens = rng.integers(0, config.vocabulary, (ROWS, 4))
        for row in range(ROWS):
            tokens[row, : take[row]] = TOKENS[row, done[row] : done[row] + take[row]]
        hidden, cache = forward(
            config,
            params_of(config),
            tokens,
            done[:, None] + np.arange(4),
            tiny.cached_mask(cache["length"], 4, LENGTH),
            cache,
        )
        for row in range(ROWS):
            seen[row, done[row] : done[row] + take[row]] = hidden[row, : take[row]]
        done += take
        cache["length"] += take
    np.testing.assert_allclose(seen, recomputed(config), atol=1e-5)


@EACH
def test_tree_in_the_cache(config):
    """Tree attention: slots are in order of writing, positions are depths.

    Each node equals the same token at the end of its own branch alone.
        text 0 1 2 3 4, then    5a 6a 7a          in slots 5 6 7
                                5b 6b 7b 8b 9b    in slots 8 to 12
    """
    params = params_of(config)
    cache = models.init_cache(config, ROWS, 13)
    mask = tiny.cached_mask(cache["length"], 5, 13)
    at = slice(0, 5)
    _, cache = forward(config, params, TOKENS[:, at], POSITIONS[:, at], mask, cache)
    cache["length"] += 5
    positions = np.array([[5, 6, 7, 5, 6, 7, 8, 9]] * ROWS)
    mask = np.zeros((ROWS, 8, 13), bool)
    mask[:, :, :5] = True
    mask[:, :3, 5:8] = np.tril(np.ones((3, 3), bool))
    mask[:, 3:, 8:] = np.tril(np.ones((5, 5), bool))
    nodes = np.concatenate([TOKENS[:, 8:11], TOKENS[:, 5:10]], 1)
    hidden, _ = forward(config, params, nodes, positions, mask, cache)
    for branch in (slice(0, 3), slice(3, 8)):
        line = np.concatenate([TOKENS[:, :5], nodes[:, branch]], 1)
        size = line.shape[1]
        alone, _ = forward(
            config, params, line, POSITIONS[:, :size], CAUSAL[:, :size, :size]
        )
        np.testing.assert_allclose(hidden[:, branch], alone[:, 5:], atol=1e-5)


@EACH
def test_causality_by_gradient(config):
    """The gradient of token t reaches the tokens up to t alone."""
    config = dataclasses.replace(config, tie_embeddings=False)
    seen = CAUSAL[0]
    if config.sliding_window:  # two layers of window 3, over one that sees all
        config = dataclasses.replace(config, window_from=0, layers=2)
        seen = seen & ~np.tril(seen, -5)
    width = config.embed_dim or config.dim
    tokens = np.arange(2 * LENGTH).reshape(2, LENGTH)  # each token in one place
    positions = POSITIONS[:2]
    segments = np.stack([np.ones(LENGTH, int), np.zeros(LENGTH, int)])
    moved = []
    for t in range(LENGTH):
        weights = np.zeros((2, LENGTH, width), np.float32)
        weights[0, t] = np.arange(width)
        inputs = tokens, positions, segments, weights
        gradients, _ = differentiate(config, params_of(config), *inputs)
        moved.append(np.abs(gradients["embed"]["embedding"]).sum(-1) > 0)
    np.testing.assert_array_equal(np.array(moved)[:, :LENGTH], seen)
    assert not np.array(moved)[:, LENGTH:].any()


@EACH
def test_packed_is_apart(config):
    """Two documents in one row have the hidden states and gradients of a row each.

    packed  a a a a a a b b b b .      apart  a a a a a a . . . . .
            . . . . . . . . . . .             b b b b . . . . . . .
    """
    width = config.embed_dim or config.dim
    weights = np.random.default_rng(2).normal(size=(10, width)).astype(np.float32)

    def lay(*rows):
        """Documents as (first, size) of TOKENS[0], laid out in two rows."""
        tokens, positions, segments = np.zeros((3, 2, LENGTH), np.int32)
        weighed = np.zeros((2, LENGTH, width), np.float32)
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

    packed = differentiate(config, params_of(config), *lay([(0, 6), (6, 4)], []))
    apart = differentiate(config, params_of(config), *lay([(0, 6)], [(6, 4)]))
    np.testing.assert_allclose(packed[1][0, :6], apart[1][0, :6], atol=1e-5)
    np.testing.assert_allclose(packed[1][0, 6:10], apart[1][1, :4], atol=1e-5)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3, rtol=1e-4),
        packed[0],
        apart[0],
    )


def test_scan_is_a_loop():
    """The layers applied one by one, each with its slice of the stacked parameters."""
    x = PARAMS["embed"]["embedding"][TOKENS]
    shared = llama.Shared(layers.rotary_angles(CONFIG, POSITIONS), CAUSAL, None)
    x = loop(llama.Layer(CONFIG, deterministic=True), PARAMS, x, shared)
    x = layers.RMSNorm(CONFIG).apply({"params": PARAMS["norm"]}, x)
    np.testing.assert_allclose(x, recomputed(), atol=1e-5)


@pytest.mark.parametrize("config", [OPT, OPT_350M], ids=["opt", "opt-350m"])
def test_scan_is_a_loop_in_opt(config):
    """As above; position 0 has the third row of its table."""
    params = params_of(config)
    x = params["embed"]["embedding"][TOKENS]
    if config.embed_dim:
        x = x @ params["project_in"]["kernel"]
    x += params["embed_position"]["embedding"][2 + POSITIONS]
    x = loop(opt.Layer(config, deterministic=True), params, x, CAUSAL)
    if config.pre_norm:
        x = layers.layer_norm(config, None).apply({"params": params["norm"]}, x)
    if config.embed_dim:
        x = x @ params["project_out"]["kernel"]
    np.testing.assert_allclose(x, recomputed(config), atol=1e-5)


def loop(layer, params, x, shared):
    apply = jax.jit(layer.apply)
    for number in range(layer.config.layers):
        own = jax.tree.map(operator.itemgetter(number), params["layers"])
        (x, _), _ = apply({"params": own}, (x, None), number, shared)
    return x


@pytest.mark.slow
@EACH
def test_remat(config):
    """Values and gradients stay the same while more and more is recomputed."""
    width = config.embed_dim or config.dim
    weights = np.random.default_rng(3).normal(size=(2, LENGTH, width))
    segments = np.ones((2, LENGTH), int)
    inputs = TOKENS[:2], POSITIONS[:2], segments, weights.astype(np.float32)
    results, products = {}, {}
    for remat in ("none", "dots", "full"):
        variant = dataclasses.replace(config, remat=remat)
        step = functools.partial(differentiate, variant)
        results[remat] = step(params_of(config), *inputs)
        products[remat] = str(jax.make_jaxpr(step)(params_of(config), *inputs)).count(
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
    """Off by default; another key drops other values."""
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
    """With everything dropped, nothing is left of embedding, attention and MLP."""
    config = dataclasses.replace(CONFIG, dropout=1 - 1e-7)
    drop = {"deterministic": False, "rngs": {"dropout": jax.random.key(0)}}
    inputs = TOKENS, POSITIONS, CAUSAL
    apply = jax.jit(functools.partial(models.build(config).apply, **drop))
    hidden, _ = apply({"params": PARAMS}, *inputs)
    assert not hidden.any()
    own = jax.tree.map(operator.itemgetter(0), PARAMS["layers"])
    shared = llama.Shared(layers.rotary_angles(CONFIG, POSITIONS), CAUSAL, None)
    layer = llama.Layer(config, deterministic=False)
    x = np.ones((ROWS, LENGTH, CONFIG.dim), np.float32)
    apply = jax.jit(functools.partial(layer.apply, rngs=drop["rngs"]))
    (y, _), _ = apply({"params": own}, (x, None), 0, shared)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("config", [OPT, OPT_350M], ids=["opt", "opt-350m"])
def test_dropout_places_in_opt(config):
    """With everything dropped, attention and MLP add nothing; the 350M still norms."""
    config = dataclasses.replace(config, dropout=1 - 1e-7)
    own = jax.tree.map(operator.itemgetter(0), params_of(config)["layers"])
    layer = opt.Layer(config, deterministic=False)
    x = np.random.default_rng(5).normal(size=(1, 3, config.dim)).astype(np.float32)
    rngs, mask = {"dropout": jax.random.key(0)}, CAUSAL[:1, :3, :3]
    (y, _), _ = jax.jit(layer.apply)({"params": own}, (x, None), 0, mask, rngs=rngs)
    for name in () if config.pre_norm else ("attention_norm", "mlp_norm"):
        x = layers.layer_norm(config, None).apply({"params": own[name]}, x)
    np.testing.assert_allclose(y, x, atol=1e-5)


def test_bfloat16():
    """Computed in bf16 from fp32 parameters, near the fp32 result; logits in fp32."""
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
    """Logits of given tokens are those entries of the whole vocabulary's logits."""
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
    """One key gives the same parameters; shapes are known without computing them."""
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


@pytest.mark.parametrize("tokens", [1, 3, 4])
def test_a_window_over_all_keys_is_no_mask(tokens, monkeypatch):
    """A flash kernel may then be chosen; with one token more the mask is dense."""
    params = {"params": params_of(WINDOWED)}
    seen, attend = [], attention.attend

    def watched(query, key, value, mask, backend):
        seen.append(mask)
        return attend(query, key, value, mask, backend)

    monkeypatch.setattr(attention, "attend", watched)
    inputs = TOKENS[:, :tokens], POSITIONS[:, :tokens]
    module = models.build(WINDOWED)
    actual, _ = module.apply(params, *inputs, attention.Mask(causal=True))
    assert seen
    assert all((mask.dense is None) == (tokens <= 3) for mask in seen)
    every = dataclasses.replace(WINDOWED, sliding_window=None, window_from=0)
    expected, _ = models.build(every).apply(
        params, *inputs, attention.Mask(causal=True)
    )
    assert np.allclose(actual, expected, atol=1e-6) == (tokens <= 3)
