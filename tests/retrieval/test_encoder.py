"""The encoder: tokens against the tokenizer, vectors against a plain call, batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models import attention
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.retrieval import encoder

BERT = ModelConfig(
    "bert", vocabulary=20, dim=16, layers=2, heads=2, ffn=32, max_positions=64
)


apply = jax.jit(models.build(BERT).apply)


@pytest.fixture(scope="module")
def params():
    return models.init_params(BERT, jax.random.key(0))


def test_a_vector_does_not_depend_on_padding(params):
    short = encoder.encode(BERT, params, jnp.array([[2, 5, 6, 3]]), pad=0)
    long = encoder.encode(BERT, params, jnp.array([[2, 5, 6, 3, 0, 0]]), pad=0)
    np.testing.assert_allclose(short, long, atol=1e-5)


def test_the_mask_is_one_that_cudnn_has(params, monkeypatch):
    """Lengths only; the vectors are those of a full mask, and finite for empty rows."""
    seen = []
    attend = attention.attend
    monkeypatch.setattr(
        attention,
        "attend",
        lambda q, k, v, mask, b: seen.append(mask) or attend(q, k, v, mask, b),
    )
    tokens = jnp.array([[2, 5, 6, 3, 0, 0], [2, 9, 7, 8, 4, 3], [0] * 6])
    vectors = encoder.encode(BERT, params, tokens, pad=0)
    query = jnp.zeros((3, 6, 2, 8), jnp.bfloat16)
    for mask in seen:
        assert not attention.objections("cudnn", mask, query, query, "gpu")
    pairs = jnp.repeat((tokens != 0)[:, None], 6, axis=1)
    positions = jnp.tile(jnp.arange(6), (3, 1))
    expected, _ = apply({"params": params}, tokens, positions, pairs)
    np.testing.assert_allclose(vectors, expected[:, 0], atol=1e-6)
    assert seen and np.isfinite(vectors).all()


@pytest.mark.slow
def test_both_ways_to_batch_give_the_same_vectors(params, monkeypatch):
    monkeypatch.setattr(encoder, "FIXED", 7)
    rng = np.random.default_rng(0)
    tokens = np.zeros((30, 40), np.int32)
    for row, length in zip(tokens, rng.integers(1, 41, 30), strict=True):
        row[:length] = rng.integers(1, 20, length)
    fixed, bucketed = (
        encoder.embed(BERT, params, tokens, 0, batches)
        for batches in (
            encoder.fixed_batches(30, 40),
            encoder.bucketed_batches(tokens, 0),
        )
    )
    expected = encoder.encode(BERT, params, jnp.array(tokens), 0)
    np.testing.assert_allclose(fixed, expected, atol=1e-5)
    np.testing.assert_allclose(bucketed, expected, atol=1e-5)


def test_a_bucket_holds_its_texts_and_no_more_than_it_must():
    tokens = np.zeros((5, 56), np.int32)
    for row, length in zip(tokens, (16, 17, 33, 48, 56), strict=True):
        row[:length] = 1
    found = {
        (batch.width, *batch.rows.tolist())
        for batch in encoder.bucketed_batches(tokens, 0)
    }
    assert found == {(16, 0), (24, 1), (48, 2, 3), (56, 4)}


def test_sizes_of_batches():
    for count in (1, 7, 8, 9, 31, 32, 33, 500, 3000):
        rows = np.arange(count)
        found = list(encoder.cut_rows(rows, 64, parts=3))
        np.testing.assert_array_equal(np.concatenate([b for b, _ in found]), rows)
        assert all(size % 3 == 0 and len(b) <= size for b, size in found)
        assert all(size == 9 or 2 * len(b) >= size for b, size in found)
        assert len({size for _, size in found}) <= 3


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.05])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pooling_against_numpy(params, pooling, normalise, temperature):
    settings = {"pooling": pooling, "normalise": normalise, "temperature": temperature}
    config = dataclasses.replace(BERT, **settings)
    tokens = np.array([[2, 5, 6, 3, 0, 0], [2, 9, 7, 8, 4, 3], [2, 0, 0, 0, 0, 0]])
    vectors = encoder.encode(config, params, jnp.array(tokens), 0)
    for row, vector in zip(tokens, vectors, strict=True):
        row = row[row != 0]
        positions, mask = np.arange(len(row))[None], np.ones((1, len(row), len(row)))
        states = apply({"params": params}, row[None], positions, mask > 0)[0][0]
        expected = np.mean(states, axis=0) if pooling == "mean" else states[0]
        if normalise:
            expected /= np.sqrt((expected**2).sum())
        np.testing.assert_allclose(vector, expected / temperature**0.5, atol=1e-5)
    # so that a dot product is the score over the temperature
    if normalise:
        np.testing.assert_allclose((vectors**2).sum(1), 1 / temperature, rtol=1e-5)


def test_a_row_of_padding_has_a_finite_gradient(params):
    settings = {"pooling": "mean", "normalise": True, "temperature": 0.05}
    config = dataclasses.replace(BERT, **settings)
    tokens = jnp.array([[2, 5, 3], [0, 0, 0]])
    grad = jax.jit(jax.grad(lambda p: encoder.encode(config, p, tokens, 0).sum()))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grad(params)))
