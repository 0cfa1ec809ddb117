"""The retriever's loss and measures, against numpy and hand counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.training import retriever

BERT = ModelConfig(
    "bert", vocabulary=20, dim=16, layers=2, heads=2, ffn=32, max_positions=8
)


def nce_oracle(scores, gold, negatives):
    total = 0.0
    for b, m in np.argwhere(gold):
        wrong = sum(np.exp(scores[b, n]) for n in np.flatnonzero(negatives[b]))
        total -= np.log(np.exp(scores[b, m]) / (np.exp(scores[b, m]) + wrong))
    return total


def test_nce_is_each_gold_against_the_negatives_alone():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(5, 7)).astype(np.float32) * 3
    gold = rng.random((5, 7)) < 0.3
    negatives = ~gold & (rng.random((5, 7)) < 0.6)
    gold[2], negatives[3] = False, False
    loss, count = retriever.nce(scores, gold, negatives)
    assert count == gold.sum()
    np.testing.assert_allclose(loss, nce_oracle(scores, gold, negatives), rtol=1e-5)


def test_nce_without_negatives_costs_nothing_and_has_a_gradient():
    gold, none = np.ones((1, 2), bool), np.zeros((1, 2), bool)
    loss, grad = jax.value_and_grad(lambda s: retriever.nce(s, gold, none)[0])(
        jnp.array([[3.0, -3.0]])
    )
    assert loss == 0
    np.testing.assert_array_equal(grad, 0)


def test_the_two_encoders_begin_alike_and_share_nothing():
    params = retriever.retriever_task(BERT, pad=0).init(jax.random.key(0), None)
    leaves = (jax.tree.leaves(params[part]) for part in ("mention", "entity"))
    pairs = zip(*leaves, strict=True)
    for mention, entity in pairs:
        np.testing.assert_array_equal(mention, entity)
        assert mention.unsafe_buffer_pointer() != entity.unsafe_buffer_pointer()


def test_retriever_measures_against_a_hand_count():
    scores = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]], np.float32)
    gold = np.array([[1, 0, 1, 0], [1, 0, 0, 0]], bool)
    found = retriever.retriever_measures(scores, gold)
    # ranks: 0 (first), 1 (behind entity 1 alone), 3
    assert found["recall@1"] == pytest.approx(1 / 3)
    assert found["recall@10"] == 1
    assert found["loss"] == pytest.approx(nce_oracle(scores, gold, ~gold) / 3, rel=1e-5)


def test_a_shared_encoder_is_one_set_of_parameters_for_both_roles():
    params = retriever.retriever_task(BERT, 0, shared=True).init(
        jax.random.key(0), None
    )
    assert list(params) == ["shared"]
    rng = np.random.default_rng(0)
    windows, entities = jnp.array(rng.integers(1, 20, (2, 3, 6), np.int32))
    batch = {"windows": windows, "entities": entities, "gold": jnp.eye(3, dtype=bool)}
    batch["negatives"] = ~batch["gold"]
    twice = {"mention": params["shared"], "entity": params["shared"]}
    key = jax.random.key(1)
    found = retriever.loss_sums(BERT, 0, params, batch, key)
    assert found == retriever.loss_sums(BERT, 0, twice, batch, key)
