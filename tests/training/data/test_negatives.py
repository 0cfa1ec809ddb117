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
from insgenel_jax.training.data.streams import Stream
from insgenel_jax.training.retriever import retriever_task

MODEL = ModelConfig(
    "bert", vocabulary=50, dim=16, layers=1, heads=2, ffn=16, max_positions=8
)
ENTITIES = np.random.default_rng(0).integers(4, 50, (40, 6)).astype(np.int32)
GOLDS = [[3, 5], [5], [7, 8]]


class Windows(negatives.grain.DatasetIterator):
    """Endless batches of windows that spell the tokens of their first gold."""

    def __init__(self, rows=3, entities=ENTITIES):
        super().__init__()
        self.at, self.rows, self.entities = 0, rows, entities

    def __next__(self):
        rng = np.random.default_rng(self.at)
        self.at += 1
        golds = [[int(e)] for e in rng.integers(0, len(self.entities), self.rows)]
        windows = np.stack([self.entities[row[0]] for row in golds])
        ids = [[str(self.at)]] * self.rows
        confusable = [[] for _ in golds]
        return {
            "windows": windows,
            "golds": golds,
            "confusable": confusable,
            "ids": ids,
        }

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


@pytest.fixture
def data(make_config):
    settings = make_config("retriever", {"data.mined_per_window": 2}).data
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


def test_what_was_mined_for_a_window_is_a_negative_of_all(make_config):
    mined = [[20, 21, 22], [20, 24], [23, 5]]
    ids, gold, against, _ = choose(make_config, mined=mined)
    assert ids[4:9] == [20, 21, 22, 24, 23]
    assert len(set(ids) - {3, 5, 7, 8, 20, 21, 22, 23, 24}) <= 8 - 6  # drawn evenly
    assert against[:, 4:9].all()
    five = ids.index(5)  # a gold of the first two, mined for the third
    assert (
        against[:, five].tolist() == (~gold[:, five]).tolist() == [False, False, True]
    )


def test_a_gold_over_the_limit_is_no_negative_of_its_window(make_config):
    ids, gold, against, dropped = choose(make_config, entities=4, golds=2)
    assert dropped == 2 and not {7, 8} & set(ids) and not gold[2].any()
    mined = [[7], [], []]  # which brings it back, as a gold
    ids, gold, against, dropped = choose(make_config, mined, entities=4, golds=2)
    seven = ids.index(7)
    assert dropped == 1 and gold[:, seven].tolist() == [False, False, True]
    assert against[:, seven].tolist() == [True, True, False]


@pytest.mark.parametrize(("pool", "streams"), [(0, 1), (150, 1), (0, 2)])
def test_every_window_of_a_large_batch_has_its_own(make_config, pool, streams):
    """All 256 windows from the first step on; none beyond the last step."""
    rows = 256 // streams
    changes = {"batch": 256, "golds": rows, "negatives": 3 * rows + 5}
    changes |= {"mined_per_window": 3, "mining_pool": pool, "refresh_steps": 2}
    settings = make_config(
        "retriever", {f"data.{name}": value for name, value in changes.items()}
    ).data
    entities = np.random.default_rng(1).integers(4, 50, (900, 6)).astype(np.int32)
    data, counts = Windows(rows, entities), collections.Counter()
    data = negatives.WithNegatives(
        data,
        entities,
        MODEL,
        settings,
        0,
        7,
        counts,
        steps=3,
        stream=Stream(0, streams),
    )
    params = retriever_task(MODEL, 0).init(jax.random.key(0), None)
    windows = Windows(rows, entities)
    for step in range(3):
        data.refresh(step, params)
        (mined, *coming) = data.get_state()["mined"]
        assert len(coming) == (1, 0, 0)[step]
        batch, golds = next(data), next(windows)["golds"]
        columns = batch["negatives"].shape[1] // streams
        found = {row.tobytes(): m for m, row in enumerate(batch["entities"])}
        for b, (hard, gold) in enumerate(zip(mined, golds, strict=True)):
            assert len(set(hard)) == 3 and not set(hard) & set(gold)
            for e in hard:
                m = found[entities[e].tobytes()]
                assert m < columns and batch["negatives"][b, m]
                assert not batch["gold"][b, m]


def test_a_pool_holds_the_golds_and_no_more_than_it_may(data, make_config):
    changes = {"data.mining_pool": 9}
    data._settings = make_config("retriever", changes).data
    pool = data._pool(4, GOLDS)
    assert len(pool) == len(set(pool.tolist())) == 9 and {3, 5, 7, 8} <= set(pool)
    assert pool.tolist() == sorted(pool) == data._pool(4, GOLDS).tolist()
    assert pool.tolist() != data._pool(8, GOLDS).tolist()


def test_hard_negatives_without_room_are_an_error_in_words(make_config):
    settings = make_config("retriever", {"data.mined_per_window": 3}).data
    with pytest.raises(ValueError, match=r"data.negatives = 8: .* batch, 12 .*; raise"):
        negatives.check_room(settings, 40)
    negatives.check_room(settings, 8)  # there are not as many entities
    negatives.check_room(settings, 40, streams=2)


def test_rows_without_an_entity_are_neither(data):
    batch = next(data)
    assert batch["entities"].shape == (20, 6)
    used = (batch["gold"] | batch["negatives"]).any(0)
    count = int(used.sum())
    assert not used[count:].any() and not batch["entities"][count:, 1:].any()


def test_mining_finds_the_nearest_and_sets_the_data_back(data):
    params = retriever_task(MODEL, 0).init(jax.random.key(0), None)
    params = {"mention": params["entity"], "entity": params["entity"]}
    data.refresh(3, params)  # in the middle of a round
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
            assert found == order[:2]


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


def test_streams_have_columns_of_their_own():
    wide = negatives._own_columns(np.ones((2, 3), bool), Stream(1, 2))
    np.testing.assert_array_equal(wide, [[0, 0, 0, 1, 1, 1]] * 2)


def test_confusable_entities_are_hard_negatives_of_their_batch(make_config):
    class Confused(Windows):
        def __next__(self):
            return super().__next__() | {"confusable": [[21], [22], []]}

    settings = make_config("retriever", {"data.mined_per_window": 0}).data
    data = negatives.WithNegatives(
        Confused(), ENTITIES, MODEL, settings, 0, 7, collections.Counter()
    )
    batch = next(data)
    for entity in (21, 22):
        row = (batch["entities"] == ENTITIES[entity]).all(1)
        assert row.sum() == 1
        assert batch["negatives"][:, row].any()
