"""Attention against numpy, the masks, and what the cache's writes leave behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax.models import attention

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def attend_by_hand(query, key, value, mask):
    """One query, one head at a time."""
    out = np.zeros_like(query)
    group = query.shape[2] // key.shape[2]
    for b, t, n in np.ndindex(query.shape[:3]):
        seen = np.flatnonzero(mask[b, t])
        scores = key[b, seen, n // group] @ query[b, t, n] / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max())
        out[b, t, n] = weights / weights.sum() @ value[b, seen, n // group]
    return out


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attend(kv_heads):
    """Grouped heads and any mask."""
    query, key, value = (
        normal(2, 3, 4, 6),
        normal(2, 5, kv_heads, 6),
        normal(2, 5, kv_heads, 6),
    )
    mask = RNG.random((2, 3, 5)) < 0.6
    mask[..., 0] = True
    found = jax.jit(attention.attend)(query, key, value, mask)
    expected = attend_by_hand(query, key, value, mask)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_nothing_to_see_is_finite():
    """A row that may attend to nothing: finite values and gradients, huge keys too."""
    arrays = normal(1, 2, 2, 4), 1e3 * normal(1, 3, 2, 4), normal(1, 3, 2, 4)
    mask = np.array([[[True, False, True], [False] * 3]])

    def total(arrays):
        return attention.attend(*arrays, mask).sum()

    value, gradients = jax.jit(jax.value_and_grad(total))(arrays)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)


def test_causal_mask():
    """Two packed segments and padding."""
    found = attention.causal_mask(jnp.array([[1, 1, 2, 2, 0]]))
    expected = [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]
    assert found[0].astype(int).tolist() == expected


def test_bidirectional_mask():
    """Both sides, of its own segment alone."""
    found = attention.bidirectional_mask(jnp.array([[1, 1, 2, 0]]))
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert found[0].astype(int).tolist() == expected


def test_cached_mask():
    """The picture in its docstring, and a row with an empty cache."""
    found = attention.cached_mask(jnp.array([2, 0]), tokens=3, slots=6)
    assert found.astype(int).tolist() == [
        [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]],
        [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]],
    ]


def test_extend_cache():
    """Each row from its own length on; past the end nothing; other layers untouched."""
    layers, slots, new = 3, 5, 2
    lengths = np.array([0, 2, 4, 5])  # the last two: one write dropped, both dropped
    old = {name: normal(layers, 4, slots, 2, 3) for name in "kv"}
    key, value = normal(4, new, 2, 3), normal(4, new, 2, 3)
    cache, keys, values = jax.jit(attention.extend_cache)(
        old | {"length": lengths}, 1, key, value
    )
    for name, fresh, whole in (("k", key, keys), ("v", value, values)):
        expected = old[name].copy()
        for row, length in enumerate(lengths):
            for token in range(new):
                if length + token < slots:
                    expected[1, row, length + token] = fresh[row, token]
        np.testing.assert_array_equal(cache[name], expected)
        np.testing.assert_array_equal(whole, expected[1])
    np.testing.assert_array_equal(cache["length"], lengths)
