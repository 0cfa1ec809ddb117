"""Moving slots of a cache, against numpy."""

import jax
import numpy as np

from insgenel_jax import models
from tests.helpers.tiny import WINDOWED


def test_moved_slots_hold_what_the_others_held():
    """Row 0: slots 4, 5 -> 2, 3. Row 1: 5 -> 1, and one past the end, dropped."""
    cache = models.init_cache(WINDOWED, 2, 6)
    rng = np.random.default_rng(0)
    cache = {
        name: rng.integers(0, 99, leaf.shape).astype(leaf.dtype)
        for name, leaf in cache.items()
    }
    moved = jax.jit(models.move_slots)(
        cache, np.array([[4, 5], [5, 0]]), np.array([[2, 3], [1, 6]])
    )
    expected = {name: leaf.copy() for name, leaf in cache.items()}
    for name in ("k", "v"):
        expected[name][:, 0, 2:4] = cache[name][:, 0, 4:6]
        expected[name][:, 1, 1] = cache[name][:, 1, 5]
    expected["positions"][0, 2:4] = cache["positions"][0, 4:6]
    expected["positions"][1, 1] = cache["positions"][1, 5]
    jax.tree.map(np.testing.assert_array_equal, moved, expected)
