"""The generator's loss and measures, against numpy and hand counts."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.text.formats.documents import read_documents
from insgenel_jax.text.formats.rejects import Rejects
from insgenel_jax.tokenizer import load_tokenizer
from insgenel_jax.training import generator
from insgenel_jax.training.data import packing
from insgenel_jax.training.data.chunks import generator_expand
from insgenel_jax.training.data.decisions import FORCED, OPEN, SKIP, SPAN, TITLE
from tests.helpers.marks import slow

KEY = jax.random.key(0)
LLAMA = ModelConfig(
    "llama", vocabulary=20, dim=16, layers=2, heads=2, ffn=32, max_positions=16
)


@pytest.fixture(scope="module")
def batch():
    """Two rows: segments of 5 and 4 tokens and padding, a segment of 5 and padding."""
    rng = np.random.default_rng(1)
    segments = np.array([[1] * 5 + [2] * 4 + [0], [1] * 5 + [0] * 5])
    positions = np.array([[*range(5), *range(4), 0], [*range(5), *[0] * 5]])
    weights = rng.choice([0.0, 0.5, 1.0], segments.shape) * (segments > 0)
    rows = {
        "tokens": rng.integers(1, 20, segments.shape) * (segments > 0),
        "targets": rng.integers(1, 20, segments.shape) * (segments > 0),
        "weights": weights.astype(np.float32),
        "segments": segments,
        "positions": positions,
        "others": np.where(
            rng.random((2, 10, 3)) < 0.5, -1, rng.integers(1, 20, (2, 10, 3))
        ),
        "biases": rng.normal(size=(2, 10, 4)).astype(np.float32),
    }
    return jax.tree.map(jnp.asarray, rows)


@functools.cache
def sums():
    """The compiled losses."""
    return jax.jit(generator.generator_task(LLAMA).loss_sums)


@functools.cache
def sums_and_grads(scored, edges):
    task = generator.generator_task(LLAMA, scored, "", edges)
    return jax.jit(jax.value_and_grad(task.loss_sums, has_aux=True))


@pytest.fixture(scope="module")
def params():
    return generator.generator_task(LLAMA).init(KEY, None)


@pytest.fixture(scope="module")
def logits(params, batch):
    @jax.jit
    def run(params, batch):
        hidden = generator.generator_hidden(LLAMA, params, batch)
        return models.unembed(LLAMA, params, hidden)

    return np.asarray(run(params, batch), np.float64)


def test_packed_rows_lose_what_their_examples_lose_apart(params, batch):
    run = sums()
    loss, count = run(params, batch, KEY)
    apart = [(0, 0, 5), (0, 5, 9), (1, 0, 5)]
    losses = [
        run(params, {k: v[b : b + 1, i:j] for k, v in batch.items()}, KEY)
        for b, i, j in apart
    ]
    np.testing.assert_allclose(loss, sum(part for part, _ in losses), rtol=1e-5)
    assert count == sum(part for _, part in losses) == batch["weights"].sum()


def test_the_loss_is_the_weighted_sum_of_log_probabilities(params, batch, logits):
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    b, t = np.indices(batch["targets"].shape)
    expected = -(log_p[b, t, batch["targets"]] * batch["weights"]).sum()
    np.testing.assert_allclose(sums()(params, batch, KEY)[0], expected, rtol=1e-5)


def test_a_target_of_weight_zero_does_not_count(params, batch):
    before, _ = sums()(params, batch, KEY)
    other = (batch["targets"] + 1) % 20
    prompt = batch["weights"] == 0
    in_prompt = batch | {"targets": jnp.where(prompt, other, batch["targets"])}
    assert sums()(params, in_prompt, KEY)[0] == before
    in_target = batch | {"targets": jnp.where(prompt, batch["targets"], other)}
    assert sums()(params, in_target, KEY)[0] != before


def test_dropout_needs_its_key_and_only_acts_in_training(batch):
    config = ModelConfig(
        "llama", 20, dim=16, layers=2, heads=2, ffn=32, max_positions=16, dropout=0.5
    )
    task = generator.generator_task(config)
    params = task.init(KEY, None)
    run = jax.jit(task.loss_sums)
    one, two = (run(params, batch, jax.random.key(i))[0] for i in (1, 2))
    assert one != two
    judged = batch | {"kinds": batch["segments"]}
    loss, _ = generator.sum_measures(config, False, params, judged)["loss"]
    assert loss not in (one, two)


def test_the_loss_of_allowed_edges_is_a_softmax_over_them(params, batch, logits):
    expected = 0.0
    for b, t in np.ndindex(2, 10):
        edges = [int(batch["targets"][b, t]), *batch["others"][b, t].tolist()]
        with_bias = [
            logits[b, t, edge] + float(batch["biases"][b, t, e])
            for e, edge in enumerate(edges)
            if edge >= 0
        ]
        log_p = with_bias[0] - np.log(np.exp(with_bias).sum())
        expected -= log_p * float(batch["weights"][b, t])
    (loss, _), grads = sums_and_grads(0, True)(params, batch, KEY)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_decisions_are_judged_among_the_allowed_edges():
    # OPEN is 3: links token 7, copies it, passes over 8, closes (4) before 5, a title
    # with another beside it, a title that the dictionary does not have
    kinds = np.array([[OPEN, FORCED, SKIP, SPAN, TITLE, TITLE]])
    targets = np.array([[3, 7, 8, 4, 9, 9]])
    others = np.array([[[7, -1], [-1, -1], [3, -1], [5, -1], [10, 11], [-1, -1]]])
    logits = np.zeros((1, 6, 20), np.float32)
    logits[0, 0, [3, 7, 1]] = 1.0, 0.5, 9.0  # OPEN leads 7, whatever 1 says
    logits[0, 1, 6] = 1.0  # not 7
    logits[0, 2, [3, 8]] = 1.0, 0.5  # OPEN leads 8: wrong
    logits[0, 3, [4, 5]] = 2.0, 1.0
    logits[0, 4, [9, 11, 1]] = 1.0, 2.0, 9.0
    logits[0, 5, [9, 1]] = 1.0, 9.0  # 1 leads the whole vocabulary
    biases = np.zeros((1, 6, 3), np.float32)
    batch = {
        "kinds": kinds,
        "targets": targets,
        "others": others,
        "biases": biases,
        "weights": np.ones((1, 6), np.float32),
    }

    def judge(**changes):
        arrays = jax.tree.map(jnp.asarray, batch | changes)
        found = generator.judge(jnp.array(logits), False, arrays)
        del found["loss"]
        return {name: [int(x) for x in pair] for name, pair in found.items()}

    expected = {
        "open recall": [1, 1],
        "skip recall": [0, 1],
        "span accuracy": [1, 1],
        "title accuracy": [0, 2],
        "copy accuracy": [0, 1],
    }
    assert judge() == expected
    biases[0, 4] = 0.0, 0.0, -1.5  # the prior does not believe in 11
    assert judge() == expected | {"title accuracy": [1, 2]}


@pytest.mark.parametrize("edges", [slow(False), True])
def test_scoring_only_the_positions_that_weigh_changes_nothing(params, batch, edges):
    most = int((batch["weights"] > 0).sum(1).max())
    (one, count), grads = sums_and_grads(0, edges)(params, batch, KEY)
    (two, same), again = sums_and_grads(most, edges)(params, batch, KEY)
    np.testing.assert_allclose(two, one, rtol=1e-5)
    assert same == count
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.slow
def test_a_packed_epoch_loses_what_an_unpacked_one_does(make_config, prepared):
    """Every example of the training documents, packed into rows or in one each."""
    tokenizer, kb = load_tokenizer(prepared / "generator"), prepared / "kb"
    config = make_config("generator")
    expand = generator_expand(tokenizer, KnowledgeBase.open(kb), config.data)
    documents = read_documents(prepared / "dev.jsonl", Rejects())
    examples = [e for d in documents for e in expand(d, collections.Counter())]
    model = dataclasses.replace(
        LLAMA, vocabulary=tokenizer.size, max_positions=config.data.max_length
    )
    task = generator.generator_task(model)
    params, run = task.init(KEY, None), jax.jit(task.loss_sums)
    sums = {}
    for packed in (True, False):
        batches = packing.pack_all(
            examples, dataclasses.replace(config.data, packed=packed)
        )
        leaves = [
            {k: v for k, v in batch.items() if k not in ("ids", "kinds")}
            for batch in batches
        ]
        found = np.array([run(params, batch, KEY) for batch in leaves]).sum(axis=0)
        rows = sum(int((batch["segments"] > 0).any(axis=1).sum()) for batch in leaves)
        sums[packed] = rows, *found
    assert sums[True][0] < sums[False][0]  # rows were shared
    np.testing.assert_allclose(sums[True][1:], sums[False][1:], rtol=1e-5)
