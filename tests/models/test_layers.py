"""Norms, rotary positions and embeddings against numpy in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from insgenel_jax.models import layers
from insgenel_jax.models.config import ModelConfig

RNG = np.random.default_rng(0)
CONFIG = ModelConfig(
    "llama",
    vocabulary=7,
    dim=12,
    layers=1,
    heads=2,
    ffn=8,
    max_positions=64,
    norm_eps=1e-3,
    rope_theta=100.0,
)


def test_rms_norm():
    """With a scale, and with vectors so small that epsilon counts."""
    x = RNG.normal(size=(3, 12)) * np.array([[1e-3], [1.0], [1e3]])
    scale = RNG.normal(size=12)
    actual = layers.RMSNorm(CONFIG).apply(
        {"params": {"scale": jnp.array(scale, jnp.float32)}}, jnp.array(x, jnp.float32)
    )
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * scale
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_layer_norm():
    """Also far from zero, where E[x²] - E[x]² would cancel."""
    x = RNG.normal(size=(3, 12)) + np.array([[0.0], [10.0], [3000.0]])
    x = x.astype(np.float32)
    scale, bias = RNG.normal(size=(2, 12)).astype(np.float32)
    norm = layers.layer_norm(CONFIG, None)
    actual = norm.apply({"params": {"scale": scale, "bias": bias}}, x)
    y = x.astype(np.float64) - x.astype(np.float64).mean(-1, keepdims=True)
    expected = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-3) * scale + bias
    np.testing.assert_allclose(actual, expected, atol=2e-3)
    np.testing.assert_allclose(actual[:2], expected[:2], atol=1e-5)


def test_rotate():
    """Each pair (x[i], x[i + H/2]) is a complex number, turned by position * rate."""
    x = RNG.normal(size=(2, 3, 2, 6))
    positions = np.array([[0, 1, 2], [7, 40, 63]])
    angles = layers.rotary_angles(CONFIG, jnp.array(positions))
    actual = layers.rotate(jnp.array(x, jnp.float32), angles)
    rate = 100.0 ** (-np.arange(3) / 3)
    turn = np.exp(1j * positions[:, :, None, None] * rate)
    turned = (x[..., :3] + 1j * x[..., 3:]) * turn
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_number_outside_of_the_table():
    """The result is NaN, not another token's vector."""
    table = layers.Embed(CONFIG, CONFIG.vocabulary, CONFIG.dim)
    params = table.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    actual = table.apply(params, jnp.array([[6, 7]]))
    assert np.isfinite(actual[0, 0]).all()
    assert np.isnan(actual[0, 1]).all()


def test_initial_spread():
    """A standard deviation of 0.02, whatever the shape of the kernel."""
    config = dataclasses.replace(CONFIG, dim=64)
    for features, axis, shape in ((96, -1, (1, 64)), (64, (-2, -1), (1, 8, 8))):
        map_ = layers.project(config, features, None, axis=axis)
        params = map_.init(jax.random.key(0), jnp.zeros(shape))["params"]
        assert abs(np.std(params["kernel"]) - 0.02) < 1e-3
