"""BERT: padding, sight to both sides, nn.scan, dropout, and no cache."""

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models import bert, layers
from insgenel_jax.models.attention import Mask
from tests.helpers.tiny import BERT, random_params

CONFIG = dataclasses.replace(BERT, norm_eps=1e-12, dropout=0.1)
PARAMS = random_params(CONFIG)
TOKENS = np.random.default_rng(0).integers(0, 64, (2, 9))
POSITIONS = np.tile(np.arange(9), (2, 1))


@jax.jit
def encode(params, tokens, segments):
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    mask = Mask(segments=segments)
    return models.build(CONFIG).apply({"params": params}, tokens, positions, mask)[0]


def test_padding_changes_nothing():
    """A text of 6 tokens alone, and padded to 9 with other tokens."""
    alone = encode(PARAMS, TOKENS[:, :6], jnp.ones((2, 6), int))
    padded = encode(PARAMS, TOKENS, jnp.array([[1] * 6 + [0] * 3] * 2))
    np.testing.assert_allclose(padded[:, :6], alone, atol=1e-5)
    assert np.isfinite(padded).all()


def test_sees_both_sides():
    """[CLS] depends on the last token, in the row alone where that has changed."""
    changed = TOKENS.copy()
    changed[0, -1] = (changed[0, -1] + 1) % 64
    ones = jnp.ones((2, 9), int)
    before, after = encode(PARAMS, TOKENS, ones), encode(PARAMS, changed, ones)
    assert np.abs(before[0, 0] - after[0, 0]).max() > 1e-3
    np.testing.assert_array_equal(before[1], after[1])


def test_scan_is_a_loop():
    """The layers applied one by one, each with its slice of the stacked parameters."""
    p = jax.tree.map(jnp.asarray, PARAMS)
    x = p["embed"]["embedding"][TOKENS] + p["embed_position"]["embedding"][POSITIONS]
    x += p["embed_type"]["embedding"][0]
    x = layers.layer_norm(CONFIG, None).apply({"params": p["embed_norm"]}, x)
    layer = jax.jit(bert.Layer(CONFIG, deterministic=True).apply)
    for number in range(CONFIG.layers):
        own = jax.tree.map(operator.itemgetter(number), p["layers"])
        x, _ = layer({"params": own}, x, number, np.ones((2, 9, 9), bool))
    expected = encode(p, TOKENS, jnp.ones((2, 9), int))
    np.testing.assert_allclose(x, expected, atol=1e-5)


def test_dropout_places():
    """With everything dropped, nothing is left of embedding, attention and MLP."""
    config = dataclasses.replace(CONFIG, dropout=1 - 1e-7)
    rngs, mask = {"dropout": jax.random.key(0)}, np.ones((2, 9, 9), bool)
    apply = jax.jit(functools.partial(models.build(config).apply, deterministic=False))
    hidden, _ = apply({"params": PARAMS}, TOKENS, POSITIONS, mask, rngs=rngs)
    np.testing.assert_allclose(hidden, hidden[:1, :1].repeat(2, 0).repeat(9, 1))
    own = jax.tree.map(operator.itemgetter(0), PARAMS["layers"])
    layer = bert.Layer(config, deterministic=False)
    x = np.random.default_rng(1).normal(size=(2, 9, 24)).astype(np.float32)
    actual, _ = jax.jit(layer.apply)({"params": own}, x, 0, mask, rngs=rngs)
    for norm in ("attention_norm", "mlp_norm"):
        x = layers.layer_norm(config, None).apply({"params": own[norm]}, x)
    np.testing.assert_allclose(actual, x, atol=1e-5)


def test_no_cache():
    """With a cache a token could not see later ones."""
    cache = models.init_cache(CONFIG, 2, 9)
    mask = np.ones((2, 9, 9), bool)
    with pytest.raises(ValueError, match="no cache"):
        models.build(CONFIG).apply({"params": PARAMS}, TOKENS, POSITIONS, mask, cache)
