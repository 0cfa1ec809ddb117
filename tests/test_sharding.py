"""Eight virtual devices: the mesh, the tables, batches, and logits that do not change."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from insgenel_jax import models, sharding
from insgenel_jax.models import bert, llama
from insgenel_jax.models.attention import causal_mask
from tests.models.tiny import BERT, LLAMA, random_params

pytestmark = pytest.mark.skipif(
    jax.device_count() < 8, reason="needs eight devices, virtual ones will do"
)

TOKENS = np.random.default_rng(0).integers(0, 64, (8, 10)).astype(np.int32)


def encode(config, params, tokens):
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    mask = causal_mask(jnp.ones_like(tokens))
    module = models.build(config)
    return module.apply({"params": params}, tokens, positions, mask)[0]


def train(config, params, tokens):
    """-> gradients and logits of a loss in which every logit counts."""

    def loss(params):
        hidden = encode(config, params, tokens)
        logits = models.unembed(config, params, hidden)
        return (jax.nn.logsumexp(logits, -1) ** 2).sum(), logits

    return jax.grad(loss, has_aux=True)(params)


@pytest.mark.parametrize(
    ("function", "config"), [(train, LLAMA), (encode, BERT)], ids=["llama", "bert"]
)
def test_one_device_or_eight(function, config):
    """1 x 1 x 1 equals 2 x 2 x 2, the batch still split at the end."""
    results = []
    for mesh in (sharding.make_mesh(), sharding.make_mesh(2, 2, 2)):
        places = models.param_shardings(config, mesh)
        params = jax.device_put(random_params(config), places)
        tokens = sharding.host_batch_to_global(TOKENS, mesh)
        with jax.set_mesh(mesh):
            results.append(jax.jit(functools.partial(function, config))(params, tokens))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(
            np.asarray(x), np.asarray(y), rtol=1e-4, atol=1e-4
        ),
        *results,
    )
    assert jax.tree.leaves(results[1])[-1].sharding.spec[0] == sharding.BATCH


def test_born_sharded():
    """Each leaf where the tables put it, and the same numbers as on one device."""
    config = dataclasses.replace(LLAMA, tie_embeddings=True)
    places = models.param_shardings(config, sharding.make_mesh(2, 2, 2))
    params = models.init_params(config, jax.random.key(0), places)
    assert jax.tree.map(lambda leaf: leaf.sharding, params) == places
    kernel = params["layers"]["mlp"]["up"]["kernel"]
    assert kernel.sharding.spec == P(None, "fsdp", "tensor")
    assert kernel.addressable_shards[0].data.shape == (2, 12, 20)
    whole = models.init_params(config, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, whole)


@pytest.mark.parametrize(
    ("config", "table"), [(LLAMA, llama.AXES), (BERT, bert.AXES)], ids=["llama", "bert"]
)
def test_tables_have_no_idle_rows(config, table):
    """Every row of a family's table is some parameter's."""
    paths, _ = jax.tree_util.tree_flatten_with_path(models.abstract_params(config))
    names = {jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in paths}
    assert set(table) == names


def test_wrong_tables_are_refused():
    """All that is wrong in one error: no row, another rank, a collision, no rule."""
    mesh = sharding.make_mesh(2, 2, 2)
    shapes = {
        "a": {"kernel": jax.ShapeDtypeStruct((4, 4), "float32")},
        "b": jax.ShapeDtypeStruct((4, 4), "float32"),
        "c": jax.ShapeDtypeStruct((4, 4), "float32"),
        "d": jax.ShapeDtypeStruct((4,), "float32"),
        "e": jax.ShapeDtypeStruct((4, 3), "float32"),
        "f": jax.ShapeDtypeStruct((3, 4), "float32"),
    }
    axes = {
        "b": ("model",),
        "c": ("heads", "ffn"),
        "d": ("width",),
        "e": ("model", "ffn"),
        "f": (None, "ffn"),
    }
    with pytest.raises(ValueError, match="cannot shard") as error:
        sharding.shardings(shapes, axes, mesh)
    for part in (
        "a/kernel has no row",
        "b has shape (4, 4), but its row is ('model',)",
        "c: ('heads', 'ffn') puts two dimensions on one axis",
        "d: no rule for logical axes ['width']",
        "e: mesh axis tensor = 2 does not divide ffn = 3",
    ):
        assert part in str(error.value)
    assert "f" not in str(error.value).split("cannot shard: ")[1].split()


def test_too_fine_for_the_model():
    """Two key heads do not go on four devices; on one device any model fits."""
    with pytest.raises(ValueError, match="tensor = 4 does not divide kv_heads = 2"):
        models.param_shardings(LLAMA, sharding.make_mesh(tensor=4))
    odd = dataclasses.replace(LLAMA, vocabulary=61, dim=20, ffn=7)
    models.param_shardings(odd, sharding.make_mesh())


def test_mesh():
    """Auto axes in their order; more than there is, or nothing, is refused."""
    mesh = sharding.make_mesh(data=2, tensor=2)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 1, "tensor": 2}
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
    for wrong in ({"data": 9}, {"fsdp": 0}):
        with pytest.raises(ValueError, match="devices, found 8"):
            sharding.make_mesh(**wrong)


def test_batches():
    """Split over data and fsdp, whole over tensor; rows that do not divide are named."""
    mesh = sharding.make_mesh(2, 2, 2)
    batch = {"tokens": np.arange(24).reshape(8, 3), "weights": np.ones(4, np.float32)}
    found = sharding.host_batch_to_global(batch, mesh)
    jax.tree.map(np.testing.assert_array_equal, found, batch)
    assert found["tokens"].sharding == sharding.batch_sharding(mesh)
    assert {s.data.shape for s in found["tokens"].addressable_shards} == {(2, 3)}
    with pytest.raises(ValueError, match=r"'x/y': 6 rows cannot be split .* = 4"):
        sharding.host_batch_to_global({"x": {"y": np.ones(6)}}, mesh)


def test_pin():
    """Held where a mesh is set, else untouched; what does not divide is left alone."""
    mesh = sharding.make_mesh(2, 2, 2)
    x = jnp.ones((8, 4))
    assert sharding.pin_batch(x) is x
    with jax.set_mesh(mesh):
        assert sharding.pin_batch(jnp.ones((6, 4))).sharding.is_fully_replicated
        pinned = jax.jit(lambda x: sharding.pin(x, None, "tensor"))(x)
    assert pinned.sharding == NamedSharding(mesh, P(None, "tensor"))
