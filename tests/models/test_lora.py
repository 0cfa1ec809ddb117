"""LoRA: the formula, merging, gradients, dropout, and its directory."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from insgenel_jax import models
from insgenel_jax.models import attention, lora
from insgenel_jax.models.lora import Lora
from tests.helpers.marks import slow
from tests.helpers.tiny import BERT, LLAMA, random_params

ALL = Lora(
    rank=3,
    alpha=5.0,
    dropout=0.5,
    targets=("query", "key", "value", "output", "gate", "up", "down"),
)
CONFIG = dataclasses.replace(LLAMA, lora=ALL)
PARAMS = jax.tree.map(jnp.asarray, random_params(CONFIG))
TOKENS = np.random.default_rng(0).integers(0, CONFIG.vocabulary, (2, 9))


@functools.partial(jax.jit, static_argnums=0)
def forward(config, params, **options):
    positions = np.tile(np.arange(TOKENS.shape[1]), (len(TOKENS), 1))
    mask = attention.causal_mask(np.ones_like(TOKENS))
    module = models.build(config)
    return module.apply({"params": params}, TOKENS, positions, mask, **options)[0]


def random_lora(config):
    """Random parameters, A and B among them."""
    return jax.tree.map(jnp.asarray, random_params(config))


@pytest.mark.parametrize(
    ("features", "axis", "shape"),
    [((4, 6), -1, (2, 5, 24)), (24, (-2, -1), (2, 5, 4, 6)), (40, -1, (2, 5, 24))],
    ids=["query", "output", "up"],
)
def test_formula(features, axis, shape):
    """As peft has it: x W + b + alpha / rank * (x A) B, on flat matrices in numpy."""
    rng = np.random.default_rng(0)
    layer = lora.Adapted(features, axis=axis, lora=ALL)
    x = rng.normal(size=shape).astype(np.float32)
    params = layer.init(jax.random.key(0), x)["params"]
    params = {n: rng.normal(size=p.shape).astype("f4") for n, p in params.items()}
    actual = layer.apply({"params": params}, x)
    inputs, outputs = (24, 40 if features == 40 else 24)
    w, a, b = (
        params[name].astype(float).reshape(rows, -1)
        for name, rows in (("kernel", inputs), ("lora_a", inputs), ("lora_b", 3))
    )
    assert (w.shape, a.shape, b.shape) == ((24, outputs), (24, 3), (3, outputs))
    flat = x.astype(float).reshape(10, inputs)
    expected = flat @ w + params["bias"].reshape(-1) + 5.0 / 3 * (flat @ a) @ b
    np.testing.assert_allclose(actual.reshape(10, -1), expected, atol=2e-5)


@pytest.mark.parametrize("config", [LLAMA, BERT], ids=lambda c: c.family)
def test_merged_is_unmerged(config):
    """Merged parameters give the same hidden states, for projections of every form."""
    targets = set(ALL.targets) - ({"gate"} if config.family == "bert" else set())
    settings = dataclasses.replace(ALL, targets=tuple(sorted(targets)))
    adapted = dataclasses.replace(config, lora=settings)
    params = random_lora(adapted)
    merged = lora.merge(settings, params)
    assert jax.tree.map(jnp.shape, merged) == jax.tree.map(
        jnp.shape, models.abstract_params(config)
    )
    plain = forward(config, lora.split(params)[1])
    actual, expected = forward(config, merged), forward(adapted, params)
    assert np.abs(expected - plain).max() > 0.1
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_fresh_is_the_base():
    """A starts as PyTorch's linear maps do, B at 0: the model equals its base."""
    base = models.init_params(LLAMA, jax.random.key(0))
    additions = models.init_lora(CONFIG, jax.random.key(1))
    params = lora.join(base, additions)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, models.abstract_params(CONFIG)
    )
    for path, leaf in flatten_dict(additions, sep="/").items():
        if path.endswith("lora_b"):
            assert not leaf.any()
            continue
        inputs = np.prod(leaf.shape[1:-1])  # [layers, *inputs, rank]
        assert 0.8 < np.abs(leaf).max() * np.sqrt(inputs) <= 1, path
        assert (leaf[0] != leaf[1]).all()
    jax.tree.map(np.testing.assert_array_equal, lora.merge(ALL, params), base)
    np.testing.assert_array_equal(forward(CONFIG, params), forward(LLAMA, base))


def test_release_defaults():
    """Query and value, rank 8, alpha 16, dropout 0.05."""
    config = dataclasses.replace(LLAMA, lora=Lora())
    assert (Lora().rank, Lora().alpha, Lora().dropout) == (8, 16, 0.05)
    actual = lora.split(models.abstract_params(config))[0]
    assert {p: leaf.shape for p, leaf in flatten_dict(actual, sep="/").items()} == {
        "layers/attention/query/lora_a": (2, 24, 8),
        "layers/attention/query/lora_b": (2, 8, 4, 6),
        "layers/attention/value/lora_a": (2, 24, 8),
        "layers/attention/value/lora_b": (2, 8, 2, 6),
    }


@pytest.mark.slow
def test_the_additions_alone_are_differentiated():
    """Joined to a constant base they get the gradients of the whole tree."""
    additions, base = lora.split(PARAMS)

    def loss(params):
        return (forward(CONFIG, params) ** 2).sum()

    whole = lora.split(jax.jit(jax.grad(loss))(PARAMS))[0]
    alone = jax.jit(jax.grad(lambda a: loss(lora.join(base, a))))(additions)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4),
        whole,
        alone,
    )
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(alone))


@pytest.mark.parametrize("remat", ["none", slow("full")])
def test_dropout_in_training_only(remat):
    """Dropout acts if a key is given, also where the rest of the model drops nothing.

    It does not touch the input of the base: with B = 0 the key changes nothing.
    """
    config = dataclasses.replace(CONFIG, remat=remat)
    rngs = {"dropout": jax.random.key(0)}
    calm = forward(config, PARAMS)
    np.testing.assert_array_equal(calm, forward(config, PARAMS))
    assert np.abs(forward(config, PARAMS, rngs=rngs) - calm).max() > 0.1
    fresh = lora.join(PARAMS, models.init_lora(config, jax.random.key(1)))
    np.testing.assert_array_equal(
        forward(config, fresh, rngs=rngs), forward(config, fresh)
    )


def test_dropout_is_of_the_input():
    """Half of A's input is dropped and the rest doubled, as in peft."""
    settings = dataclasses.replace(ALL, rank=24, alpha=24.0)
    layer, eye = lora.Adapted(24, use_bias=False, lora=settings), np.eye(24)
    params = {"kernel": 0 * eye, "lora_a": eye, "lora_b": eye}
    x = np.ones((50, 24), np.float32)
    rngs = {"dropout": jax.random.key(0)}
    actual = np.asarray(layer.apply({"params": params}, x, rngs=rngs))
    assert set(np.unique(actual)) == {0, 2} and 0.45 < (actual == 2).mean() < 0.55


def test_directory(tmp_path):
    """Settings and leaves come back in their dtypes; nothing of the base is saved."""
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    for params in (PARAMS, half):
        lora.save(tmp_path / "lora", ALL, params)
        settings, actual = lora.load(tmp_path / "lora", lora.split(params)[1])
        assert settings == ALL
        jax.tree.map(np.testing.assert_array_equal, actual, lora.split(params)[0])
        assert jax.tree.leaves(actual)[0].dtype == jax.tree.leaves(params)[0].dtype
    assert sorted(f.name for f in (tmp_path / "lora").iterdir()) == [
        "lora.json",
        "lora.safetensors",
    ]


def test_wrong_base(tmp_path):
    """One error names every leaf that does not fit; the base may be shapes alone."""
    lora.save(tmp_path, ALL, PARAMS)
    wider = dataclasses.replace(LLAMA, ffn=48, layers=3)
    with pytest.raises(ValueError, match="not made for this base") as error:
        lora.load(tmp_path, models.abstract_params(wider))
    assert str(error.value).count("do not fit") == 7
    for part in (
        "up/lora_a (2, 24, 3)",
        "up/lora_b (2, 3, 40)",
        "up/kernel (3, 24, 48)",
    ):
        assert part in str(error.value)
    with pytest.raises(ValueError, match="the base has no gate; .*gate/lora_a is left"):
        lora.load(tmp_path, models.abstract_params(BERT))


def test_damaged_directory(tmp_path):
    """Missing and left-over leaves, another rank, damaged settings and files."""
    base = models.abstract_params(LLAMA)
    with pytest.raises(FileNotFoundError, match="lora.json: no such file"):
        lora.load(tmp_path, base)
    lora.save(tmp_path, ALL, PARAMS)
    weights, settings = tmp_path / "lora.safetensors", tmp_path / "lora.json"
    leaves, record = load_file(weights), json.loads(settings.read_text())
    settings.write_text(json.dumps(record | {"rank": 4}))
    with pytest.raises(ValueError, match="query/lora_b .* of rank 4 do not fit"):
        lora.load(tmp_path, base)
    for wrong in ({"version": 2}, {"rank": 0}, {"width": 1}, {"targets": None}):
        settings.write_text(json.dumps(record | wrong))
        with pytest.raises(ValueError, match="lora.json: .*; save it again"):
            lora.load(tmp_path, base)
    settings.write_text(json.dumps(record))
    moved = leaves | {"unembed/lora_a": leaves.pop("layers/mlp/up/lora_a")}
    save_file(moved, weights)
    with pytest.raises(ValueError, match="up/lora_a is missing; unembed/lora_a is lef"):
        lora.load(tmp_path, base)
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(
        ValueError, match="lora.safetensors: .*; damaged, save it again"
    ):
        lora.load(tmp_path, base)


def test_wrong_settings():
    """All are named; a target that the family lacks, when its leaves are made."""
    with pytest.raises(ValueError) as error:
        Lora(rank=0, alpha=0.0, dropout=1.0, targets=())
    for part in ("rank is 0", "alpha is 0.0", "dropout is 1.0", "targets is empty"):
        assert part in str(error.value)
    config = dataclasses.replace(BERT, lora=Lora(targets=("query", "gate", "q_proj")))
    with pytest.raises(ValueError, match=r"\['gate', 'q_proj'\]: 'bert' has no such"):
        models.init_lora(config, jax.random.key(0))
