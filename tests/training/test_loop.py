"""The loop: resuming to the same bits, stopping, keeping the best, accumulation."""

import collections
import dataclasses
import gc
import itertools
import json
import os
import signal
import time

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from insgenel_jax import models
from insgenel_jax.kb import KnowledgeBase
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.sharding import make_mesh
from insgenel_jax.tokenizer import load_tokenizer, load_wordpiece
from insgenel_jax.training import checkpoint, loop, metrics, optimizer
from insgenel_jax.training.data import documents, packing
from insgenel_jax.training.data.chunks import generator_expand
from insgenel_jax.training.data.negatives import WithNegatives
from insgenel_jax.training.data.windows import (
    entity_tokens,
    retriever_expand,
    window_batches,
)
from insgenel_jax.training.generator import generator_task
from insgenel_jax.training.retriever import retriever_task
from insgenel_jax.training.settings import LoopSettings, OptimizerSettings
from insgenel_jax.training.signals import Preempted
from insgenel_jax.training.state import TrainState
from tests.helpers.marks import slow


@pytest.fixture(scope="module")
def start(prepared, make_config):
    """start(task, changes) -> task, config, fresh data, refresh: what `train` takes."""
    kb = KnowledgeBase.open(prepared / "kb")

    def generator(config):
        tokenizer = load_tokenizer(prepared / "generator")
        model = ModelConfig(
            "llama",
            tokenizer.size,
            dim=16,
            layers=2,
            heads=2,
            ffn=32,
            max_positions=256,
        )
        expand = generator_expand(tokenizer, kb, config.data)
        counts = collections.Counter()
        dataset = documents.stream_examples(config.data.documents, expand, 0, counts)
        data = iter(packing.pack(dataset, config.data, 0, counts))
        return generator_task(model), data, None

    def retriever(config):
        wordpiece = load_wordpiece(prepared / "retriever")
        model = ModelConfig(
            "bert", wordpiece.size, dim=16, layers=2, heads=2, ffn=32, max_positions=32
        )
        settings, counts = config.data, collections.Counter()
        entities = entity_tokens(
            wordpiece, kb, settings.entity_tokens, prepared / "entities.npy"
        )
        expand = retriever_expand(wordpiece, kb, settings)
        dataset = documents.stream_examples(settings.documents, expand, 0, counts)
        windows = iter(window_batches(dataset, settings))
        data = WithNegatives(windows, entities, model, settings, 0, 0, counts)
        return retriever_task(model, 0), data, data.refresh

    def make(task, changes=None):
        config = make_config(task, changes)
        task, data, refresh = {"generator": generator, "retriever": retriever}[task](
            config
        )
        return task, config, data, refresh

    return make


def run(started, workdir, **others):
    task, config, data, refresh = started
    return loop.train(task, config, data, workdir, **{"refresh": refresh} | others)


def same(one, two):
    flags = jax.tree.map(
        lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), one, two
    )
    return all(jax.tree.leaves(flags))


def lines(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    return {r["step"]: r for r in map(json.loads, text.splitlines()) if "loss" in r}


@pytest.mark.parametrize("name", ["generator", slow("retriever")])
def test_a_stopped_run_goes_on_to_the_same_bits(start, tmp_path, name):
    # the retriever is stopped in the middle of a round of mined negatives
    changes = (
        {"data.refresh_steps": 2} if name == "retriever" else {"model.dropout": 0.1}
    )
    straight = run(start(name, changes), tmp_path / "straight")

    def stop_in_step_3(step, params):
        if refresh is not None:
            refresh(step, params)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    task, config, data, refresh = start(name, changes)
    with pytest.raises(Preempted) as stopped:
        run((task, config, data, None), tmp_path / "two", refresh=stop_in_step_3)
    assert stopped.value.step == 3
    # as a killed process leaves it: more in the log than in the checkpoint
    log = tmp_path / "two" / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 4, "loss": 9.0}\n{"ste')
    resumed = run(start(name, changes), tmp_path / "two")
    assert same(straight, resumed)
    one, two = lines(tmp_path / "straight"), lines(tmp_path / "two")
    assert list(one) == list(two) == [1, 2, 3, 4, 5, 6]
    assert [r["loss"] for r in one.values()] == [r["loss"] for r in two.values()]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    "where", ["reading", *map(slow, ("taken", "saving", "evaluating"))]
)
def test_a_stop_request_need_not_wait_for_data(start, tmp_path, monkeypatch, where):
    changes = {"loop.steps": 4, "loop.evaluate_steps": 2}
    losses = itertools.count(0.0, -1.0)  # the last is the best

    def evaluate(params):
        return {"loss": next(losses)}

    straight = run(
        start("generator", changes), tmp_path / "straight", evaluate=evaluate
    )
    task, config, data, _ = start("generator", changes)
    asked = []

    def ask():
        asked.append(where)
        os.kill(os.getpid(), signal.SIGTERM)

    class Stuck(grain.DatasetIterator):
        """The third batch never comes; or it does, and its reader is stopped then."""

        def __next__(self):
            self.read = getattr(self, "read", 0) + 1
            if self.read < 3:
                return next(data)
            if where == "taken":
                next(data)
            ask()
            for _ in range(100):
                time.sleep(0.1)
            raise AssertionError("nobody listened")

        def get_state(self):
            return data.get_state()

        def set_state(self, state):
            data.set_state(state)

    def interrupted(params):
        if where == "evaluating":
            ask()
        return evaluate(params)

    save = checkpoint.save

    def save_slowly(*args):
        if where == "saving":  # impatience must not tear the checkpoint
            ask()
        save(*args)

    monkeypatch.setattr(checkpoint, "save", save_slowly)
    with pytest.raises(Preempted) as stopped:
        loop.train(task, config, Stuck(), tmp_path / "two", evaluate=interrupted)
    assert stopped.value.step == 2 and len(asked) == 1 + (where == "saving")
    monkeypatch.setattr(checkpoint, "save", save)
    resumed = run(start("generator", changes), tmp_path / "two", evaluate=evaluate)
    assert same(straight, resumed)


def test_nothing_waits_for_a_reader_that_finds_nothing(prepared, start, tmp_path):
    task, config, _, _ = start("generator")
    counts = collections.Counter()

    def slow(document, counts):
        if counts["documents"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        return []

    dataset = documents.stream_examples(config.data.documents, slow, 0, counts)
    data = iter(packing.pack(dataset, config.data, 0, counts))
    with pytest.raises(Preempted):
        loop.train(task, config, data, tmp_path)
    del data
    gc.collect()
    assert counts["documents"] < 60, "the whole pass was waited for"


def test_training_learns_and_what_has_ended_stays_so(start, tmp_path):
    changes = {"loop.steps": 12}
    first = run(start("generator", changes), tmp_path)
    found = lines(tmp_path)
    assert found[12]["loss"] < found[1]["loss"] - 0.5
    again = run(start("generator", changes), tmp_path)
    assert same(first, again)


def test_nan_stops_names_the_examples_and_saves_nothing(start, tmp_path):
    task, config, data, _ = start("generator", {"loop.checkpoint_steps": 1})
    seen = []

    class Data(grain.DatasetIterator):
        def __next__(self):
            batch = next(data)
            seen.append(batch["ids"])
            if len(seen) == 3:
                batch["weights"][0, :] = np.nan
            return batch

        def get_state(self):
            return data.get_state()

        def set_state(self, state):
            data.set_state(state)

    with pytest.raises(metrics.NotFinite) as stopped:
        loop.train(task, config, Data(), tmp_path)
    assert "step 3: " in str(stopped.value) and "loss" in str(stopped.value)
    names = [name for row in seen[2] for name in row]
    assert str(stopped.value).endswith(" ".join(names))
    steps = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert steps == {"1", "2"}


def test_the_best_parameters_are_returned(start, tmp_path):
    kept, losses = {}, iter([3.0, 1.0, 2.0])

    def evaluate(params):
        loss = next(losses)
        kept[loss] = jax.device_get(params)
        return {"loss": loss}

    found = run(
        start("generator", {"loop.evaluate_steps": 2}), tmp_path, evaluate=evaluate
    )
    assert same(found, kept[1.0]) and not same(found, kept[2.0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generator", "retriever"])
def test_accumulated_parts_sum_to_one_large_batch(start, name):
    task, _, data, _ = start(name)
    batch = {k: v for k, v in next(data).items() if k not in loop.HOST_ONLY}
    params, key = task.init(jax.random.key(0), None), jax.random.key(1)
    # the first norm divides by the size of the embeddings: where that is small, the
    # rounding errors of their gradients are large
    params = jax.tree_util.tree_map_with_path(
        lambda path, p: p * 10 if "embed" in jax.tree_util.keystr(path) else p, params
    )
    places = task.param_shardings(make_mesh())
    whole, parts = (
        jax.jit(loop.accumulate(task.loss_sums, parts, places, task.shared))
        for parts in (1, 4)
    )
    (loss, count), grads = whole(params, batch, key)
    found = parts(params, batch, key)
    np.testing.assert_allclose(found[0][0], loss, rtol=1e-5)
    assert found[0][1] == count > 0
    for one, two in zip(jax.tree.leaves(grads), jax.tree.leaves(found[1]), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_mesh_of_many_devices_does_the_same(start, tmp_path):
    changes = {"loop.steps": 2}
    one = run(start("generator", changes), tmp_path / "one")
    many = run(
        start(
            "generator", changes | {"loop.data": 2, "loop.fsdp": 2, "loop.tensor": 2}
        ),
        tmp_path / "many",
    )
    assert not many["layers"]["mlp"]["up"]["kernel"].sharding.is_fully_replicated
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=2e-3)
    a, b = lines(tmp_path / "one"), lines(tmp_path / "many")
    assert a[1]["loss"] == pytest.approx(b[1]["loss"], rel=1e-5)


def test_one_step_is_adamw_on_the_mean_gradient(start):
    task, config, data, _ = start("generator")
    config = dataclasses.replace(
        config, optimizer=dataclasses.replace(config.optimizer, clip=0.0)
    )
    batch = {
        k: jnp.asarray(v) for k, v in next(data).items() if k not in loop.HOST_ONLY
    }
    plan = loop.make_plan(task, config.optimizer, config.loop)
    params = task.init(jax.random.key(0), None)
    state = TrainState(jnp.zeros((), jnp.int32), params, plan.tx.init(params))
    step = jax.jit(lambda state, batch: loop.train_step(plan, state, {}, batch))
    after, values = step(state, batch)

    def mean(params):
        loss, count = task.loss_sums(params, batch, jax.random.key(0))
        return loss / count

    loss, grads = jax.jit(jax.value_and_grad(mean))(params)
    assert values["loss"] == pytest.approx(float(loss), rel=1e-5)
    norm = optax.tree.norm(grads)  # Adam itself would not see a wrong scale
    assert values["gradient norm"] == pytest.approx(float(norm), rel=1e-4)
    # the first step of Adam moves every parameter by the rate, against its gradient
    for before, moved, grad in zip(
        *map(jax.tree.leaves, (params, after.params, grads)), strict=True
    ):
        grad = np.asarray(grad)
        clear = np.abs(grad) > 1e-5
        expected = -float(values["learning rate"]) * np.sign(grad)
        np.testing.assert_allclose(
            np.asarray(moved - before)[clear], expected[clear], rtol=2e-2
        )
    assert after.step == 1


def test_the_learning_rate_warms_up_and_decays_to_nothing(make_config):
    settings = make_config("generator", {"optimizer.warmup_steps": 4}).optimizer
    rate = optimizer.schedule(settings, 10)
    found = [float(rate(step)) / settings.learning_rate for step in range(11)]
    rise = [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(found, [*rise, *np.linspace(1, 0, 7)], atol=1e-6)
    share = dataclasses.replace(settings, warmup_steps=0, warmup_share=0.4)
    same = optimizer.schedule(share, 10)
    assert [float(same(step)) for step in range(11)] == [
        float(rate(step)) for step in range(11)
    ]


def test_moments_lie_where_their_parameters_lie():
    config = ModelConfig(
        "llama", 32, dim=16, layers=2, heads=2, ffn=32, max_positions=8
    )
    task = generator_task(config)
    loop_settings = LoopSettings(steps=5, fsdp=2, tensor=2)
    plan = loop.make_plan(task, OptimizerSettings(1e-3, 1), loop_settings)
    moments = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(plan.places.opt_state)
        if ".mu" in jax.tree_util.keystr(path)
    ]
    assert moments == jax.tree.leaves(plan.places.params)
    assert models.param_shardings(config, plan.mesh) == plan.places.params


def test_the_rate_counts_tokens_since_it_was_asked(monkeypatch):
    clock = iter([0.0, 2.0, 3.0])
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: next(clock))
    rate = metrics.Rate()
    rate.add(100)
    rate.add(100)
    assert rate.take() == (100, 1)
    rate.add(50)
    assert rate.take() == (50, 1)
