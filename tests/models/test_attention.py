"""Attention: the masks, and every backend against numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from insgenel_jax import sharding
from insgenel_jax.models import attention
from insgenel_jax.models.attention import Mask
from tests.helpers.attention import (
    MASKS,
    RNG,
    SEGMENTS,
    TOKENS,
    inputs,
    normal,
    shapes,
)

# Every backend, on a CPU. Splash attention is interpreted. cuDNN cannot run: our
# arguments are tried with another implementation of the same function of jax.
ON_CPU = {
    "xla": attention._attend_xla,
    "splash": functools.partial(attention._attend_splash, interpret=True),
    "cudnn": functools.partial(attention._attend_cudnn, implementation="xla"),
}
PAIRS = [
    (backend, name)
    for backend in ON_CPU
    for name in MASKS
    if backend != "cudnn" or "segments" not in name
]


def is_seen(mask: Mask, b, t, s):
    """Whether token t of row b sees token s."""
    seen = s <= t or not mask.causal
    if mask.segments is not None:
        seen = seen and 0 < mask.segments[b][t] == mask.segments[b][s]
    if mask.lengths is not None:
        seen = seen and s < mask.lengths[b]
    return bool(seen and (mask.dense is None or mask.dense[b][t][s]))


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
    """Grouped heads and any mask, on whatever platform this is."""
    query, key, value = (
        normal(2, 3, 4, 6),
        normal(2, 5, kv_heads, 6),
        normal(2, 5, kv_heads, 6),
    )
    mask = RNG.random((2, 3, 5)) < 0.6
    mask[..., 0] = True
    actual = jax.jit(attention.attend)(query, key, value, mask)
    expected = attend_by_hand(query, key, value, mask)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_masks():
    """Each part, and all parts together, against the rule for one pair of tokens."""
    segments, lengths = np.array([[1, 1, 2, 2, 0]] * 2), np.array([3, 5])
    dense = RNG.random((2, 5, 5)) < 0.6
    for mask in (
        Mask(causal=True),
        Mask(segments=segments),
        Mask(lengths=lengths),
        Mask(dense=dense),
        Mask(True, segments, lengths, dense),
    ):
        actual = np.broadcast_to(attention.to_dense(mask, 5, 5), (2, 5, 5))
        for b, t, s in np.ndindex(2, 5, 5):
            assert actual[b, t, s] == is_seen(mask, b, t, s), (mask, b, t, s)


def test_narrowed():
    """`mask & seen` allows what both do, and backends without `dense` refuse it."""
    first, second = RNG.random((2, 2, 5, 5)) < 0.6
    mask = Mask(causal=True) & first
    expected = np.tril(np.ones((5, 5), bool)) & first
    np.testing.assert_array_equal(attention.to_dense(mask, 5, 5), expected)
    actual = attention.to_dense(mask & second, 5, 5)
    np.testing.assert_array_equal(actual, expected & second)
    assert "dense" in str(attention.objections("cudnn", mask, *shapes(), "gpu"))


def test_causal_mask():
    """Two packed segments and padding; more keys than queries, as with a cache."""
    actual = attention.to_dense(
        attention.causal_mask(np.array([[1, 1, 2, 2, 0]])), 5, 5
    )
    assert actual[0].astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]
    actual = attention.to_dense(Mask(causal=True), 2, 4)
    assert actual[0].astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]


def test_segments():
    """Without `causal` a token sees all its segment; nobody sees segment 0."""
    mask = Mask(segments=np.array([[1, 1, 2, 0]]))
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert attention.to_dense(mask, 4, 4)[0].astype(int).tolist() == expected


@pytest.mark.parametrize(("backend", "name"), PAIRS)
def test_backends(backend, name):
    """Values and gradients of each backend with each mask it honours.

    Values are compared with numpy at some queries, gradients with xla at all queries.
    Queries that see nothing must be finite, and are not compared.
    """
    mask, arrays = MASKS[name], inputs()
    dense = np.broadcast_to(
        attention.to_dense(mask, TOKENS, TOKENS), (2, TOKENS, TOKENS)
    )
    weights = normal(2, TOKENS, 4, 64) * dense.any(-1)[..., None, None]

    @functools.partial(jax.jit, static_argnums=0)
    def differentiate(attend, arrays):
        def total(arrays):
            out = attend(*arrays, mask)
            return (out * weights).sum(), out

        return jax.grad(total, has_aux=True)(arrays)

    gradients, out = differentiate(ON_CPU[backend], arrays)
    assert np.isfinite(out).all()
    some = np.array([0, 1, 99, 100, 129, 130, 159, 160, 383])
    some = some[dense[:, some].any(-1).all(0)]
    expected = attend_by_hand(arrays[0][:, some], *arrays[1:], dense[:, some])
    np.testing.assert_allclose(out[:, some], expected, atol=1e-5)
    if backend != "xla":
        expected, _ = differentiate(ON_CPU["xla"], arrays)
        for gradient, wanted in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(gradient, wanted, atol=5e-5)


@pytest.mark.parametrize("backend", ["xla", "splash"])
def test_packed_is_apart(backend):
    """Two documents in one row, or in a row each: equal values and gradients.

    packed  a a a a b b .      apart  a a a a . . .
            . . . . . . .             b b . . . . .
    """
    tokens, first, second = 128, 70, 40
    packed, apart = np.zeros((2, 2, tokens), np.int32)
    packed[0, :first], packed[0, first : first + second] = 1, 2
    apart[0, :first], apart[1, :second] = 1, 1
    arrays = tuple(x[:1] for x in inputs(tokens)) + (normal(1, tokens, 4, 64),)

    def lay_apart(x):
        x = jnp.pad(x, ((0, 1), (0, 0), (0, 0), (0, 0)))
        return x.at[1, :second].set(x[0, first : first + second])

    def total(arrays, segments, lay):
        query, key, value, weights = (lay(x) for x in arrays)
        mask = attention.causal_mask(segments)
        out = ON_CPU[backend](query, key, value, mask)
        return (out * weights * (segments > 0)[..., None, None]).sum()

    def lay_packed(x):
        return jnp.pad(x, ((0, 1), (0, 0), (0, 0), (0, 0)))

    run = jax.jit(jax.value_and_grad(total), static_argnums=2)
    actual = run(arrays, packed, lay_packed)
    expected = run(arrays, apart, lay_apart)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    for one, other in zip(actual[1], expected[1], strict=True):
        assert np.abs(one).max() > 0.01
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ("xla", "causal, segments"),
        ("splash", "causal, segments"),
        ("cudnn", "causal, lengths"),
    ],
)
def test_causality_by_gradient(backend, name):
    """A query's gradient reaches the keys and values that it sees, and no others."""
    mask, arrays = MASKS[name], inputs()

    @jax.jit
    def moved(arrays, t):
        def total(query, key, value):
            return ON_CPU[backend](query, key, value, mask)[:, t].sum()

        both = jax.grad(total, (1, 2))(*arrays)
        return [jnp.abs(gradient).sum((2, 3)) > 0 for gradient in both]

    for t in (69, 120):
        for actual in jax.device_get(moved(arrays, t)):
            for b, s in np.ndindex(2, TOKENS):
                assert actual[b, s] == is_seen(mask, b, t, s), (b, t, s)


@pytest.mark.parametrize("backend", ON_CPU)
def test_nothing_to_see_is_finite(backend):
    """A row without tokens has finite values and gradients, even with huge keys."""
    query, key, value = inputs(128)
    arrays = query, 1e3 * key, value
    mask = {
        "xla": Mask(dense=np.zeros((2, 128, 128), bool)),
        "splash": Mask(
            causal=True,
            segments=np.repeat([[1, 0]], 2, axis=0).repeat(64, axis=1),
            lengths=np.array([70, 0]),
        ),
        "cudnn": Mask(lengths=np.array([128, 0])),
    }[backend]

    def total(arrays):
        return ON_CPU[backend](*arrays, mask).sum()

    actual, gradients = jax.jit(jax.value_and_grad(total))(arrays)
    assert np.isfinite(actual)
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
def test_splash_on_a_mesh():
    """Rows go over data x fsdp, heads over tensor; other numbers are refused."""
    mesh = sharding.make_mesh(2, 2, 2)
    arrays = tuple(normal(4, 128, heads, 64) for heads in (4, 2, 2))
    mask = attention.causal_mask(np.tile(SEGMENTS[:1, 50:178], (4, 1)))

    def differentiate(arrays, attend):
        return jax.value_and_grad(lambda a: (attend(*a, mask) ** 2).sum())(arrays)

    run = jax.jit(differentiate, static_argnums=1)
    expected = run(arrays, ON_CPU["splash"])
    with jax.set_mesh(mesh):
        places = NamedSharding(mesh, P(sharding.BATCH, None, "tensor"))
        actual = run(jax.device_put(arrays, places), ON_CPU["splash"])
        odd = (jax.ShapeDtypeStruct((2, 128, n, 64), "float32") for n in (4, 1))
        problems = attention.objections("splash", mask, *odd, "tpu")
    assert actual[1][0].sharding.spec[:3:2] == (sharding.BATCH, "tensor")
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4),
        actual,
        expected,
    )
    rows, heads = problems
    assert "4 does not divide 2 rows" in rows
    assert "2 does not divide 4 and 1 heads" in heads


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("parts", [(1, 1, 1), (2, 2, 2)], ids=["one", "eight"])
def test_splash_lowers_for_tpus(parts):
    """The kernel itself, not interpreted: the forward and both backward passes.

    Without the shard_map XLA would refuse to partition it on a mesh.
    """
    mesh = sharding.make_mesh(*parts)

    def total(query, key, value, segments):
        mask = attention.causal_mask(segments)
        return (attention._attend_splash(query, key, value, mask) ** 2).sum()

    heads = NamedSharding(mesh, P(sharding.BATCH, None, "tensor"))
    shapes = [
        jax.ShapeDtypeStruct((4, 256, n, 64), jnp.bfloat16, sharding=heads)
        for n in (4, 2, 2)
    ]
    rows = jax.ShapeDtypeStruct((4, 256), "int32", sharding=heads.update(spec=P()))
    with jax.set_mesh(mesh):
        traced = jax.jit(jax.grad(total, (0, 1, 2))).trace(*shapes, rows)
        text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("tpu_custom_call") == 3
