import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax import models
from insgenel_jax.models import attention
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.training import objectives
from insgenel_jax.training.data.examples import FORCED, OPEN, SKIP, SPAN, TITLE

KEY = jax.random.key(0)
LLAMA = ModelConfig(
    "llama", vocabulary=20, dim=16, layers=2, heads=2, ffn=32, max_positions=16
)
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
    loss, count = objectives.nce(scores, gold, negatives)
    assert count == gold.sum()
    np.testing.assert_allclose(loss, nce_oracle(scores, gold, negatives), rtol=1e-5)


def test_nce_without_negatives_costs_nothing_and_has_a_gradient():
    gold, none = np.ones((1, 2), bool), np.zeros((1, 2), bool)
    loss, grad = jax.value_and_grad(lambda s: objectives.nce(s, gold, none)[0])(
        jnp.array([[3.0, -3.0]])
    )
    assert loss == 0
    np.testing.assert_array_equal(grad, 0)


@pytest.fixture(scope="module")
def batch():
    """Two rows: segments of 5 and 4 tokens and padding, a segment of 7 and padding."""
    rng = np.random.default_rng(1)
    segments = np.array([[1] * 5 + [2] * 4 + [0], [1] * 7 + [0] * 3])
    positions = np.array([[*range(5), *range(4), 0], [*range(7), 0, 0, 0]])
    weights = rng.choice([0.0, 0.5, 1.0], segments.shape) * (segments > 0)
    return {
        "tokens": rng.integers(1, 20, segments.shape) * (segments > 0),
        "targets": rng.integers(1, 20, segments.shape) * (segments > 0),
        "weights": weights.astype(np.float32),
        "segments": segments,
        "positions": positions,
    }


def test_packed_rows_lose_what_their_examples_lose_apart(batch):
    task = objectives.generator_task(LLAMA)
    params = task.init(KEY, None)
    run = jax.jit(task.loss_sums)
    loss, count = run(params, batch, KEY)
    apart = [(0, 0, 5), (0, 5, 9), (1, 0, 7)]
    losses = [
        run(params, {k: v[b : b + 1, i:j] for k, v in batch.items()}, KEY)
        for b, i, j in apart
    ]
    np.testing.assert_allclose(loss, sum(part for part, _ in losses), rtol=1e-5)
    assert count == sum(part for _, part in losses) == batch["weights"].sum()


def test_the_loss_is_the_weighted_sum_of_log_probabilities(batch):
    task = objectives.generator_task(LLAMA)
    params = task.init(KEY, None)
    logits = np.asarray(
        models.unembed(
            LLAMA, params, objectives.generator_hidden(LLAMA, params, batch)
        ),
        np.float64,
    )
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    b, t = np.indices(batch["targets"].shape)
    expected = -(log_p[b, t, batch["targets"]] * batch["weights"]).sum()
    np.testing.assert_allclose(
        task.loss_sums(params, batch, KEY)[0], expected, rtol=1e-5
    )


def test_a_target_of_weight_zero_does_not_count(batch):
    task = objectives.generator_task(LLAMA)
    params = task.init(KEY, None)
    before, _ = task.loss_sums(params, batch, KEY)
    other = (batch["targets"] + 1) % 20
    prompt = batch["weights"] == 0
    in_prompt = batch | {"targets": np.where(prompt, other, batch["targets"])}
    assert task.loss_sums(params, in_prompt, KEY)[0] == before
    in_target = batch | {"targets": np.where(prompt, batch["targets"], other)}
    assert task.loss_sums(params, in_target, KEY)[0] != before


def test_dropout_needs_its_key_and_only_acts_in_training(batch):
    config = ModelConfig(
        "llama", 20, dim=16, layers=2, heads=2, ffn=32, max_positions=16, dropout=0.5
    )
    task = objectives.generator_task(config)
    params = task.init(KEY, None)
    one, two = (task.loss_sums(params, batch, jax.random.key(i))[0] for i in (1, 2))
    assert one != two
    measure = objectives.generator_measures(config)
    assert measure(
        params, batch | {"kinds": batch["segments"], "rivals": batch["segments"]}
    )["loss"][0] not in (
        one,
        two,
    )


def test_decisions_are_judged_between_the_two_edges():
    # OPEN is 3: links token 7, copies it, passes over 8, closes (4) before 5, a title
    kinds = np.array([[OPEN, FORCED, SKIP, SPAN, TITLE]])
    targets, rivals = np.array([[3, 7, 8, 4, 9]]), np.array([[7, -1, 3, 5, -1]])
    logits = np.zeros((1, 5, 20), np.float32)
    logits[0, 0, [3, 7, 1]] = 1.0, 0.5, 9.0  # OPEN leads 7, whatever 1 says
    logits[0, 1, 6] = 1.0  # not 7
    logits[0, 2, [3, 8]] = 1.0, 0.5  # OPEN leads 8: wrong
    logits[0, 3, [4, 5]] = 2.0, 1.0
    logits[0, 4, 9] = 1.0
    batch = {
        "kinds": kinds,
        "targets": targets,
        "rivals": rivals,
        "weights": np.ones((1, 5), np.float32),
    }
    found = objectives.judge(jnp.array(logits), batch)
    del found["loss"]
    assert {name: [int(x) for x in pair] for name, pair in found.items()} == {
        "open recall": [1, 1],
        "skip recall": [0, 1],
        "span accuracy": [1, 1],
        "title accuracy": [1, 1],
        "copy accuracy": [0, 1],
    }


def sums_and_grads(task):
    return jax.jit(jax.value_and_grad(task.loss_sums, has_aux=True))


def test_scoring_only_the_positions_that_weigh_changes_nothing(batch):
    most = int((batch["weights"] > 0).sum(1).max())
    whole, scored = (objectives.generator_task(LLAMA, n) for n in (0, most))
    params = whole.init(KEY, None)
    (one, count), grads = sums_and_grads(whole)(params, batch, KEY)
    (two, same), again = sums_and_grads(scored)(params, batch, KEY)
    np.testing.assert_allclose(two, one, rtol=1e-5)
    assert same == count
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_vector_does_not_depend_on_padding():
    params = models.init_params(BERT, KEY)
    short = objectives.encode(BERT, params, jnp.array([[2, 5, 6, 3]]), pad=0)
    long = objectives.encode(BERT, params, jnp.array([[2, 5, 6, 3, 0, 0]]), pad=0)
    np.testing.assert_allclose(short, long, atol=1e-5)


def test_encode_asks_nothing_that_cudnn_lacks(monkeypatch):
    """Lengths alone; the vectors are those of a mask of pairs, of empty rows finite."""
    params = models.init_params(BERT, KEY)
    seen = []
    attend = attention.attend
    monkeypatch.setattr(
        attention,
        "attend",
        lambda q, k, v, mask, b: seen.append(mask) or attend(q, k, v, mask, b),
    )
    tokens = jnp.array([[2, 5, 6, 3, 0, 0], [2, 9, 7, 8, 4, 3], [0] * 6])
    found = objectives.encode(BERT, params, tokens, pad=0)
    query = jnp.zeros((3, 6, 2, 8), jnp.bfloat16)
    for mask in seen:
        assert not attention.objections("cudnn", mask, query, query, "gpu")
    pairs = jnp.repeat((tokens != 0)[:, None], 6, axis=1)
    positions = jnp.tile(jnp.arange(6), (3, 1))
    expected, _ = models.build(BERT).apply({"params": params}, tokens, positions, pairs)
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-6)
    assert seen and np.isfinite(found).all()


def test_the_two_encoders_begin_alike_and_share_nothing():
    params = objectives.retriever_task(BERT, pad=0).init(KEY, None)
    pairs = zip(*(jax.tree.leaves(params[part]) for part in ("mention", "entity")))
    for mention, entity in pairs:
        np.testing.assert_array_equal(mention, entity)
        assert mention.unsafe_buffer_pointer() != entity.unsafe_buffer_pointer()


def test_retriever_measures_against_a_hand_count():
    scores = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]], np.float32)
    gold = np.array([[1, 0, 1, 0], [1, 0, 0, 0]], bool)
    found = objectives.retriever_measures(scores, gold)
    # ranks: 0 (first), 1 (behind entity 1 alone), 3
    assert found["recall@1"] == pytest.approx(1 / 3)
    assert found["recall@10"] == 1
    assert found["loss"] == pytest.approx(nce_oracle(scores, gold, ~gold) / 3, rel=1e-5)
