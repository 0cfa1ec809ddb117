"""Eight virtual devices: mesh, tables of axes, batches, and equal results."""

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks import memory
from insgenel_jax import models, sharding
from insgenel_jax.models.attention import causal_mask
from insgenel_jax.models.lora import Lora
from insgenel_jax.training import loop
from insgenel_jax.training.generator import generator_task
from insgenel_jax.training.settings import LoopSettings, OptimizerSettings
from insgenel_jax.training.state import TrainState
from tests.helpers.marks import slow
from tests.helpers.tiny import BERT, LLAMA, OPT, OPT_350M, random_params

pytestmark = pytest.mark.skipif(
    jax.device_count() < 8, reason="needs eight devices, virtual ones will do"
)

# Together these have every parameter that some model has.
VARIANTS = [
    LLAMA,
    dataclasses.replace(LLAMA, tie_embeddings=True),
    dataclasses.replace(OPT_350M, tie_embeddings=False),
    dataclasses.replace(LLAMA, qkv_bias=True, sliding_window=4),
    dataclasses.replace(LLAMA, qk_norm=True),
    OPT,
    OPT_350M,
    BERT,
]

TOKENS = np.random.default_rng(0).integers(0, 64, (8, 10)).astype(np.int32)


def names(tree) -> set[str]:
    return set(flatten_dict(tree, sep="/"))


def encode(config, params, tokens):
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    mask = causal_mask(jnp.ones_like(tokens))
    module = models.build(config)
    return module.apply({"params": params}, tokens, positions, mask)[0]


def differentiate(config, params, tokens):
    """Gradients and logits of a loss in which every logit counts."""

    def loss(params):
        hidden = encode(config, params, tokens)
        logits = models.unembed(config, params, hidden)
        return (jax.nn.logsumexp(logits, -1) ** 2).sum(), logits

    return jax.grad(loss, has_aux=True)(params)


assert_close = functools.partial(
    jax.tree.map,
    lambda x, y: np.testing.assert_allclose(
        np.asarray(x), np.asarray(y), rtol=1e-4, atol=1e-4
    ),
)


@pytest.mark.parametrize(
    ("function", "config"),
    [slow(differentiate, dataclasses.replace(LLAMA, lora=Lora())), (encode, BERT)],
    ids=["llama with LoRA", "bert"],
)
def test_one_device_or_eight(function, config):
    """A mesh of 2 x 2 x 2 gives what 1 x 1 x 1 gives, and the batch stays split."""
    results = []
    for mesh in (sharding.make_mesh(), sharding.make_mesh(2, 2, 2)):
        places = models.param_shardings(config, mesh)
        params = jax.device_put(random_params(config), places)
        tokens = sharding.host_batch_to_global(TOKENS, mesh)
        with jax.set_mesh(mesh):
            results.append(jax.jit(functools.partial(function, config))(params, tokens))
    assert_close(*results)
    assert jax.tree.leaves(results[1])[-1].sharding.spec[0] == sharding.BATCH


@pytest.mark.slow
def test_a_train_step():
    """Two steps on 1 x 1 x 1 and 2 x 2 x 2: equal states, in their shardings."""
    shape = TOKENS.shape
    rng = np.random.default_rng(1)
    batch = {
        "tokens": TOKENS,
        "targets": rng.integers(0, 64, shape).astype(np.int32),
        "others": np.full((*shape, 1), -1, np.int32),
        "biases": np.zeros((*shape, 2), np.float32),
        "weights": rng.random(shape, np.float32),
        "segments": np.repeat([[1, 2, 0]], 8, axis=0).repeat([5, 3, 2], axis=1),
        "positions": np.tile(np.r_[:5, :3, :2], (8, 1)),
    }
    task = generator_task(LLAMA)
    # Large steps make a difference show. A large epsilon is needed because Adam divides
    # a gradient near 0 by itself.
    settings = OptimizerSettings(learning_rate=0.1, warmup_steps=1, eps=1e-2)
    results = []
    for split in (1, 2):
        sizes = {"data": split, "fsdp": split, "tensor": split}
        run = LoopSettings(steps=4, microbatches=2, **sizes)
        plan = loop.make_plan(task, settings, run)
        places = plan.places
        with jax.set_mesh(plan.mesh):
            params = jax.device_put(random_params(LLAMA), places.params)
            opt_state = jax.jit(plan.tx.init, out_shardings=places.opt_state)(params)
            state = TrainState(jnp.zeros((), jnp.int32), params, opt_state)
            state = jax.device_put(state, places)
            rows = sharding.host_batch_to_global(batch, plan.mesh)
            step = loop.compile_step(plan, {}, rows)
            for _ in range(2):
                state, measured = step(state, {}, rows)
        results.append((state, measured))
    assert_close(*results)
    moved = jax.tree.map(
        lambda new, old: np.abs(np.asarray(new) - old).max(),
        results[1][0].params,
        random_params(LLAMA),
    )
    assert min(jax.tree.leaves(moved)) > 0.01
    for leaf, place in zip(*map(jax.tree.leaves, (results[1][0], places)), strict=True):
        assert leaf.sharding.is_equivalent_to(place, leaf.ndim)
    up = results[1][0].opt_state[1][0].mu["layers"]["mlp"]["up"]["kernel"]
    assert up.addressable_shards[0].data.shape == (2, 12, 20)


@pytest.mark.parametrize("microbatches", [slow(1), 2])
def test_gradients_lie_where_their_parameters_do(microbatches):
    """With and without microbatches; XLA alone would split the embedding's less."""
    mesh = sharding.make_mesh(2, 2, 2)
    task = generator_task(LLAMA)
    places = task.param_shardings(mesh)
    shape = TOKENS.shape
    batch = {
        "tokens": TOKENS,
        "targets": TOKENS,
        "others": np.full((*shape, 1), -1, np.int32),
        "biases": np.zeros((*shape, 2), np.float32),
        "weights": np.ones(shape, np.float32),
        "segments": np.ones(shape, np.int32),
        "positions": np.tile(np.arange(shape[1], dtype=np.int32), (shape[0], 1)),
    }
    with jax.set_mesh(mesh):
        params = jax.device_put(random_params(LLAMA), places)
        rows = sharding.host_batch_to_global(batch, mesh)
        run = jax.jit(loop.accumulate(task.loss_sums, microbatches, places))
        _, grads = run(params, rows, jax.random.key(0))
    for leaf, place in zip(*map(jax.tree.leaves, (grads, places)), strict=True):
        assert leaf.sharding.is_equivalent_to(place, leaf.ndim)


def test_born_sharded():
    """Parameters are created in their shardings, with the values of one device."""
    config = dataclasses.replace(LLAMA, tie_embeddings=True)
    places = models.param_shardings(config, sharding.make_mesh(2, 2, 2))
    params = models.init_params(config, jax.random.key(0), places)
    assert jax.tree.map(lambda leaf: leaf.sharding, params) == places
    kernel = params["layers"]["mlp"]["up"]["kernel"]
    assert kernel.sharding.spec == P(None, "fsdp", "tensor")
    assert kernel.addressable_shards[0].data.shape == (2, 12, 20)
    whole = models.init_params(config, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, whole)


@pytest.mark.parametrize("family", models.AXES)
def test_tables_have_no_idle_rows(family):
    """Every row of a family's table belongs to a parameter of some variant."""
    configs = [c for c in VARIANTS if c.family == family]
    assert set(models.AXES[family]) == set.union(
        *(names(models.abstract_params(config)) for config in configs)
    )


def test_every_variant_is_placed():
    """So are its LoRA leaves, whose rows follow from the kernels, and its cache."""
    mesh = sharding.make_mesh(2, 2, 2)
    everywhere = Lora(targets=("query", "key", "value", "output", "gate", "up", "down"))
    cached = set()
    for config in VARIANTS:
        models.param_shardings(config, mesh)
        adapted = dataclasses.replace(config, lora=everywhere)
        places = models.param_shardings(adapted, mesh)
        if config.family != "bert":
            cache = models.init_cache(config, 4, 6)
            models.cache_shardings(cache, mesh)
            cached |= names(cache)
    assert cached == set(models.CACHE_AXES)
    actual = {name: place.spec for name, place in flatten_dict(places, sep="/").items()}
    assert actual["layers/attention/query/lora_a"] == P(None, "fsdp", None)
    assert actual["layers/attention/query/lora_b"] == P(None, None, "tensor", None)
    assert actual["layers/attention/output/lora_a"] == P(None, "tensor", None, None)
    assert actual["layers/mlp/down/lora_b"] == P(None, None, "fsdp")


def test_cache():
    """A cache's rows go over data x fsdp, its key heads over tensor."""
    mesh = sharding.make_mesh(2, 2, 2)
    cache = jax.eval_shape(lambda: models.init_cache(LLAMA, 8, 6))
    places = models.cache_shardings(cache, mesh)
    assert places["k"].shard_shape(cache["k"].shape) == (2, 2, 6, 1, 6)
    assert places["length"].shard_shape((8,)) == (2,)
    with pytest.raises(ValueError, match="data x fsdp = 4 does not divide batch = 6"):
        models.cache_shardings(models.init_cache(LLAMA, 6, 6), mesh)


def test_wrong_tables_are_refused():
    """One error names it all: no row, another rank, a collision, no rule."""
    mesh = sharding.make_mesh(2, 2, 2)
    shapes = {
        "a": {"kernel": jax.ShapeDtypeStruct((4, 4), "float32")},
        "b": jax.ShapeDtypeStruct((4, 4), "float32"),
        "c": jax.ShapeDtypeStruct((4, 4), "float32"),
        "d": jax.ShapeDtypeStruct((4,), "float32"),
        "e": jax.ShapeDtypeStruct((4, 3), "float32"),
        "f": jax.ShapeDtypeStruct((3, 4), "float32"),
        "g": jax.ShapeDtypeStruct((4, 4), "float32"),
    }
    axes = {
        "b": ("model",),
        "c": ("heads", "ffn"),
        "d": ("width",),
        "e": ("model", "ffn"),
        "f": (None, "ffn"),
        "g": ("batch", "model"),
    }
    with pytest.raises(ValueError, match="cannot shard") as error:
        sharding.shardings(shapes, axes, mesh)
    for part in (
        "a/kernel has no row",
        "b has shape (4, 4), but its row is ('model',)",
        "c: ('heads', 'ffn') puts two dimensions on one axis",
        "g: ('batch', 'model') puts two dimensions on one axis",
        "d: no rule for logical axes ['width']",
        "e: mesh axis tensor = 2 does not divide ffn = 3",
    ):
        assert part in str(error.value)
    assert "f" not in str(error.value).split("cannot shard: ")[1].split()


def test_too_fine_for_the_model():
    """Two key heads cannot be split over four devices; on one any model fits."""
    with pytest.raises(ValueError, match="tensor = 4 does not divide kv_heads = 2"):
        models.param_shardings(LLAMA, sharding.make_mesh(tensor=4))
    fits = r"tensor = 4 does not divide vocabulary = 30522 \(of up to 8, 1, 2, 3, 6 "
    bert = dataclasses.replace(BERT, vocabulary=30522)
    with pytest.raises(ValueError, match=fits):
        models.param_shardings(bert, sharding.make_mesh(fsdp=2, tensor=4))
    odd = dataclasses.replace(LLAMA, vocabulary=61, dim=20, ffn=7)
    models.param_shardings(odd, sharding.make_mesh())


@pytest.mark.parametrize(("fsdp", "tensor"), memory.MESHES)
@pytest.mark.parametrize("name", memory.MODELS)
def test_training_fits(name, fsdp, tensor):
    """Large models on eight devices of 80 GB: nearly an eighth on each."""
    config = memory.MODELS[name]
    actual = memory.measure_model(config, fsdp, tensor)
    leaves = jax.tree.leaves(models.abstract_params(config))
    assert 6.5e9 < sum(leaf.size for leaf in leaves) < 7e9
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    assert whole / 8 <= actual["parameters"] < 1.01 * whole / 8
    if config.lora:  # only its leaves have a gradient
        assert 0 < actual["gradient"] < 0.01 * actual["parameters"]
    else:
        assert actual["gradient"] == actual["parameters"]
    assert 2 * actual["gradient"] <= actual["optimiser"] < 2.01 * actual["gradient"]
    parts = (actual[name] for name in ("parameters", "gradient", "optimiser"))
    assert sum(parts) == actual["training"] < 80e9
    heads = config.kv_heads * config.head_dim
    cache = 2 * 2 * memory.ROWS * memory.SLOTS * config.layers * heads
    assert cache / 8 <= actual["cache"] < 1.01 * cache / 8


def test_bytes_of_uneven_places():
    """A replicated array counts whole on each device, a split one by its part."""
    mesh = sharding.make_mesh(2, 2, 2)
    shapes = [jax.ShapeDtypeStruct((8, 6), t) for t in ("float32", "bfloat16")]
    places = [
        NamedSharding(mesh, P(sharding.BATCH, "tensor")),
        NamedSharding(mesh, P()),
    ]
    assert sharding.bytes_per_device(shapes, places) == 2 * 3 * 4 + 8 * 6 * 2


def test_mesh():
    """Axes of type Auto, in order; too many devices, or none, are refused."""
    mesh = sharding.make_mesh(data=2, tensor=2)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 1, "tensor": 2}
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
    for wrong in ({"data": 9}, {"fsdp": 0}):
        with pytest.raises(ValueError, match="devices, found 8"):
            sharding.make_mesh(**wrong)


def test_batches():
    """Split over data and fsdp, whole over tensor; refused where rows do not divide."""
    mesh = sharding.make_mesh(2, 2, 2)
    batch = {"tokens": np.arange(24).reshape(8, 3), "weights": np.ones(4, np.float32)}
    actual = sharding.host_batch_to_global(batch, mesh)
    jax.tree.map(np.testing.assert_array_equal, actual, batch)
    assert actual["tokens"].sharding == sharding.batch_sharding(mesh)
    assert {s.data.shape for s in actual["tokens"].addressable_shards} == {(2, 3)}
    with pytest.raises(ValueError, match=r"'x/y': 6 rows cannot be split .* = 4"):
        sharding.host_batch_to_global({"x": {"y": np.ones(6)}}, mesh)


def test_pin():
    """Constrained where a mesh is set and the dimension divides, else untouched."""
    mesh = sharding.make_mesh(2, 2, 2)
    x = jnp.ones((8, 4))
    assert sharding.pin_batch(x) is x
    with jax.set_mesh(mesh):
        assert sharding.pin_batch(jnp.ones((6, 4))).sharding.is_fully_replicated
        pinned = jax.jit(lambda x: sharding.pin(x, None, "tensor"))(x)
    assert pinned.sharding == NamedSharding(mesh, P(None, "tensor"))


@pytest.mark.parametrize(
    "config", [slow(LLAMA), OPT, slow(OPT_350M)], ids=["llama", "opt", "350m"]
)
def test_no_array_is_made_whole_for_want_of_a_pin(config, capfd):
    """A constraint at odds with a parameter's row makes XLA replicate the parameter."""
    mesh = sharding.make_mesh(1, 4, 2)
    places = models.param_shardings(config, mesh)
    abstract = models.abstract_params(config)

    def loss(params, tokens):
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        hidden, _ = models.build(config).apply(
            {"params": params}, tokens, positions, causal_mask(jnp.ones_like(tokens))
        )
        return salt * jnp.sum(models.unembed(config, params, hidden) ** 2)

    salt = time.time()  # a program from the compilation cache would print no warning
    with jax.set_mesh(mesh):
        tokens = sharding.host_batch_to_global(TOKENS, mesh)
        jax.jit(
            jax.grad(loss),
            in_shardings=(places, tokens.sharding),
            out_shardings=places,
        ).lower(abstract, tokens).compile()
    assert "Involuntary full rematerialization" not in capfd.readouterr().err
