"""bfloat16: what is computed in float32 and rounded once, against float64 in numpy."""

import dataclasses

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models import attention, layers
from tests.helpers.tiny import LLAMA

BF16 = ml_dtypes.bfloat16
CONFIG = dataclasses.replace(LLAMA, dtype="bfloat16")
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(BF16)


def assert_rounded_once(actual, exact):
    """`actual` is `exact` in bfloat16; near ties may differ: float32 is not exact."""
    assert actual.dtype == BF16
    actual, rounded = (np.asarray(x, np.float64) for x in (actual, exact.astype(BF16)))
    one = (
        np.spacing(np.abs(exact).astype(np.float32)) * 2.0**16
    )  # last place of bfloat16
    assert np.all(np.abs(actual - rounded) <= one)
    assert np.mean(actual != rounded) < 0.002


def test_rotary_angles():
    """At positions around 1000, where bfloat16 could not hold position * rate."""
    positions = np.arange(990, 1020)[None]
    actual = layers.rotary_angles(CONFIG, jnp.array(positions))
    rates = layers.rotary_rates(CONFIG).astype(np.float64)
    angles = np.tile(positions[..., None] * rates, 2)
    for part, exact in zip(actual, (np.cos(angles), np.sin(angles)), strict=True):
        assert part.dtype == np.float32
        # half a unit in the last place of an angle of about 1000
        np.testing.assert_allclose(part, exact, rtol=0, atol=4e-5)


def test_rms_norm():
    """The scale is one, so that only the normed vector is rounded."""
    x = normal(64, 24) * BF16(3)
    norm = layers.RMSNorm(CONFIG)
    actual = norm.apply({"params": {"scale": jnp.ones(24, BF16)}}, jnp.array(x))
    wide = x.astype(np.float64)
    mean = (wide**2).mean(-1, keepdims=True)
    assert_rounded_once(actual, wide / np.sqrt(mean + CONFIG.norm_eps))


def test_scores_and_softmax():
    """Attention weights are rounded once, before the product with the values.

    The values are the identity, so that the output is the weights.
    """
    query, key = normal(2, 40, 2, 64) * BF16(3), normal(2, 40, 1, 64)
    value = np.broadcast_to(np.eye(40, 64, dtype=BF16)[:, None], (2, 40, 1, 64))
    actual = attention.attend(
        *map(jnp.array, (query, key, value)), attention.Mask(), "xla"
    )
    scores = np.einsum("btnh,bskh->btns", *(x.astype(np.float64) for x in (query, key)))
    weights = np.exp(scores / 8 - (scores / 8).max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    assert_rounded_once(actual[..., :40], weights)


def test_attend():
    """With many keys the weighted sum is as near as rounded weights allow."""
    query, key, value = normal(2, 20, 2, 64), normal(2, 99, 1, 64), normal(2, 99, 1, 64)
    actual = attention.attend(
        *map(jnp.array, (query, key, value)), attention.Mask(), "xla"
    )
    wide = [x.astype(np.float64) for x in (query, key, value)]
    scores = np.einsum("btnh,bskh->btns", *wide[:2]) / 8
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights = (weights / weights.sum(-1, keepdims=True)).astype(BF16)
    mixed = np.einsum("btns,bskh->btnh", weights.astype(np.float64), wide[2])
    # a weight near a tie may be rounded the other way
    one = np.spacing(np.abs(mixed).astype(np.float32)) * 2.0**16
    assert actual.dtype == BF16
    assert np.all(np.abs(np.asarray(actual, np.float64) - mixed) <= one + 2.0**-10)


@pytest.mark.parametrize("chosen", [False, True], ids=["all", "chosen"])
def test_unembed(chosen):
    """Logits are float32 sums of the products, which are exact in float32."""
    hidden, rows = normal(3, 5, 24), normal(64, 24)
    ids = RNG.integers(0, 64, (3, 5, 7)) if chosen else None
    actual = models.unembed(CONFIG, {"unembed": rows}, jnp.array(hidden), ids)
    assert actual.dtype == np.float32
    wide = rows.astype(np.float64)
    wide = wide[ids] if chosen else np.broadcast_to(wide, (3, 5, 64, 24))
    expected = np.einsum("btd,btcd->btc", hidden.astype(np.float64), wide)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
