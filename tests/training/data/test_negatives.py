"""Negatives of a batch: drawn, mined and in-batch; and how mining goes on."""

import collections
import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.retrieval.encoder import encode
from insgenel_jax.training.data import negatives
from insgenel_jax.training.retriever import retriever_task

MODEL = ModelConfig(
    "bert", vocabulary=50, dim=16, layers=1, heads=2, ffn=16, max_positions=8
)
ENTITIES = np.random.default_rng(0).integers(4, 50, (40, 6)).astype(np.int32)
GOLDS = [[3, 5], [5], [7, 8]]


class Windows(negatives.grain.DatasetIterator):
    """Endless batches of three windows that spell the tokens of their first gold."""

    def __init__(self):
        super().__init__()
        self.at = 0

    def __next__(self):
        rng = np.random.default_rng(self.at)
        self.at += 1
        golds = [[int(e)] for e in rng.integers(0, 40, 3)]
        windows = np.stack([ENTITIES[row[0]] for row in golds])
        return {"windows": windows, "golds": golds, "ids": [[str(self.at)]] * 3}

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


@pytest.fixture
def data(make_config):
    settings = make_config("retriever").data
    return negatives.WithNegatives(
        Windows(), ENTITIES, MODEL, settings, 0, 7, collections.Counter()
    )


def choose(make_config, mined=((), (), ()), entities=40, **changes):
    changes = {f"data.{name}": value for name, value in changes.items()}
    return negatives.choose_entities(
        GOLDS,
        [list(row) for row in mined],
        entities,
        make_config("retriever", changes).data,
        np.random.default_rng(0),
    )


def test_golds_and_negatives_of_a_batch(make_config):
    ids, gold, against, dropped = choose(make_config)
    assert len(ids) == len(set(ids)) and ids[:4] == [3, 5, 7, 8] and dropped == 0
    assert gold.shape == against.shape == (3, 12 + 8)
    assert [[ids[m] for m in np.flatnonzero(row)] for row in gold] == GOLDS
    assert not (gold & against).any()
    # a gold that was not drawn is no negative of the others
    drawn = set(ids[4:]) | {ids[m] for m in np.flatnonzero(against.any(0))}
    for row, golds in zip(against, GOLDS, strict=True):
        assert {ids[m] for m in np.flatnonzero(row)} == drawn - set(golds)


def test_in_batch_negatives_add_the_golds_of_others(make_config):
    ids, gold, against, _ = choose(make_config, in_batch_negatives=True)
    np.testing.assert_array_equal(against[:, : len(ids)], ~gold[:, : len(ids)])
    assert not against[:, len(ids) :].any()


def test_a_drawn_gold_is_a_negative_of_the_other_windows(make_config):
    ids, _, against, _ = choose(make_config, entities=6, negatives=40)
    assert sorted(ids) == [0, 1, 2, 3, 4, 5, 7, 8]
    wrong = [{ids[m] for m in np.flatnonzero(row)} for row in against]
    assert wrong == [{0, 1, 2, 4}, {0, 1, 2, 3, 4}, {0, 1, 2, 3, 4, 5}]


def test_mined_entities_come_by_rank_and_keep_to_their_share(make_config):
    mined = [[20, 21, 22], [20, 24], [23]]
    ids, _, against, _ = choose(make_config, mined=mined, mined_share=0.375)
    assert ids[4:7] == [20, 23, 21]  # 3 of 8
    assert against[:, 4:7].all()


def test_a_dropped_gold_is_never_a_negative(make_config):
    ids, gold, _, dropped = choose(make_config, entities=9, golds=2, negatives=60)
    assert dropped == 2 and not set(ids) & {7, 8}
    assert not gold[2].any()


def test_rows_without_an_entity_are_neither(data):
    batch = next(data)
    assert batch["entities"].shape == (20, 6)
    used = (batch["gold"] | batch["negatives"]).any(0)
    count = int(used.sum())
    assert not used[count:].any() and not batch["entities"][count:, 1:].any()


def test_mining_finds_the_nearest_and_sets_the_data_back(data):
    params = retriever_task(MODEL, 0).init(jax.random.key(0), None)
    params = {"mention": params["entity"], "entity": params["entity"]}
    data.refresh(0, params)
    assert not data.get_state()["mined"]
    for _ in range(4):
        next(data)
    before = data.get_state()["windows"]
    data.refresh(4, params)
    assert data.get_state()["windows"] == before
    mined = copy.deepcopy(data.get_state()["mined"])
    assert len(mined) == 4
    vectors = np.asarray(encode(MODEL, params["entity"], jnp.array(ENTITIES), 0))
    windows = Windows()
    windows.set_state(before)
    for rows in mined:
        for gold, found in zip(next(windows)["golds"], rows, strict=True):
            scores = vectors @ vectors[gold[0]]
            order = [int(e) for e in np.argsort(-scores) if e not in gold]
            assert found == order[:4]


def test_the_state_holds_the_round(data, make_config):
    params = retriever_task(MODEL, 0).init(jax.random.key(0), None)
    for _ in range(4):
        next(data)
    data.refresh(4, params)
    next(data)
    state = copy.deepcopy(data.get_state())
    expected = [next(data) for _ in range(3)]
    data.set_state(state)
    for batch in expected:
        again = next(data)
        for name in ("windows", "entities", "gold", "negatives"):
            np.testing.assert_array_equal(again[name], batch[name])


def test_processes_have_columns_of_their_own(monkeypatch):
    monkeypatch.setattr(negatives.jax, "process_index", lambda: 1)
    monkeypatch.setattr(negatives.jax, "process_count", lambda: 2)
    wide = negatives._own_columns(np.ones((2, 3), bool))
    np.testing.assert_array_equal(wide, [[0, 0, 0, 1, 1, 1]] * 2)
