"""The KV cache: writing keys and values, moving slots, against numpy."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models.cache import extend_cache
from tests.helpers.attention import normal
from tests.helpers.tiny import WINDOWED


def test_extend_cache():
    """Rows are written from their own length on, in one layer, not past the end."""
    layers, slots, new = 3, 5, 2
    lengths = np.array([0, 2, 4, 5])  # row 2 loses one of two writes, row 3 both
    old = {name: normal(layers, 4, slots, 2, 3) for name in "kv"}
    key, value = normal(4, new, 2, 3), normal(4, new, 2, 3)
    cache, keys, values = jax.jit(extend_cache)(
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


def test_moved_slots_hold_what_the_others_held():
    """Row 0: slots 4, 5 go to 2, 3. Row 1: 5 goes to 1; a target past the end."""
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


@pytest.mark.slow
def test_a_process_moves_slots_by_the_same_program_as_another():
    """Otherwise JAX's compilation cache, which outlives a process, misses."""
    code = (
        "import jax, numpy as np\n"
        "from insgenel_jax.models.cache import move_slots\n"
        "cache = {'k': np.zeros((1, 1, 4, 1, 2)), 'v': np.ones((1, 1, 4, 1, 2))}\n"
        "slots = np.zeros((1, 2), np.int32)\n"
        "print(jax.make_jaxpr(move_slots)(cache, slots, slots))"
    )
    programs = {
        subprocess.check_output(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2", "3")  # by these, sets of "k" and "v" differ in order
    }
    assert len(programs) == 1
