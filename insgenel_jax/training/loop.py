"""The training loop: a task, its data and settings in; trained parameters out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from insgenel_jax import sharding
from insgenel_jax.models import lora
from insgenel_jax.training import checkpoint, metrics, optimizer
from insgenel_jax.training.config import Config
from insgenel_jax.training.objectives import Task

HOST_ONLY = (
    "ids",
    "kinds",
    "rivals",
)  # what a batch holds for us and not for the device

# Data whose reading was broken off. Closing it, as its deletion does, would wait for
# the batch that may never come; at the end of the process nothing waits any more.
_UNCLOSED: list[grain.DatasetIterator] = []

Evaluate = Callable[[dict], dict[str, float]]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "params", "opt_state"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes."""

    step: jax.Array
    params: dict
    opt_state: optax.OptState


class Preempted(Exception):
    """The process was told to stop; the state after `step` steps is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped after step {step}; the same command goes on")
        self.step = step


class NotFinite(ArithmeticError):
    """A loss or gradient became NaN or infinite; nothing was saved after it."""


def train(
    task: Task,
    config: Config,
    data: grain.DatasetIterator,
    workdir: Path,
    *,
    evaluate: Evaluate | None = None,
    refresh: Callable[[int, dict], None] | None = None,
) -> tuple[dict, dict[str, float]]:
    """Train, or go on where the workdir stands; returns parameters and their measures.

    evaluate(params) must give a "loss": the parameters with the lowest are returned,
    else the last. refresh(step, params) runs before each step's batch is taken. All
    three are the whole model's parameters; the workdir keeps those that are trained.
    Raises NotFinite, and Preempted after SIGTERM.
    """
    settings, loop = config.optimizer, config.loop
    mesh = sharding.make_mesh(loop.data, loop.fsdp, loop.tensor)
    tx = optimizer.build(settings, loop.steps)
    placed = state_shardings(task, tx, mesh)
    abstract = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        abstract_state(task, tx),
        placed,
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        stop, reading = stack.enter_context(_stop_requests())
        saved = stack.enter_context(
            checkpoint.open_checkpoints(workdir / "checkpoints")
        )
        best = stack.enter_context(checkpoint.open_checkpoints(workdir / "best", 1))
        frozen = task.load_frozen(task.split(task.param_shardings(mesh))[1])
        # the workdir's own checkpoint comes first, then a fresh start
        state = checkpoint.restore(saved, abstract, data)
        if state is None:
            state = init_state(task, tx, placed, config.seed)
        step = int(state.step)
        log = metrics.MetricsLog(workdir / "metrics.jsonl", step)
        lowest = checkpoint.best_loss(best)

        pending, compiled, rate = None, None, metrics.Rate()
        show = stack.enter_context(metrics.show_progress(step, loop.steps))
        while step < loop.steps:
            if refresh is not None:
                refresh(step, lora.join(frozen, state.params))
            place = data.get_state()
            try:
                with reading():
                    batch = next(data)
            except _Stop:
                if pending is not None:
                    pending()
                _UNCLOSED.append(data)
                # the reading that was broken off may have moved the data
                checkpoint.save(saved, step, state, checkpoint.Place(place))
                raise Preempted(step) from None
            ids = batch["ids"]
            batch = {k: v for k, v in batch.items() if k not in HOST_ONLY}
            rate.add(task.tokens(batch) * jax.process_count())
            batch = sharding.host_batch_to_global(batch, mesh)
            if compiled is None:
                began = time.perf_counter()
                compiled = compile_step(
                    task, tx, config, placed, abstract, frozen, batch
                )
                seconds = time.perf_counter() - began
                facts = metrics.print_header(
                    state.params, frozen, mesh, compiled, seconds
                )
                log.write(step, header=facts)
            state, measured = compiled(state, frozen, batch)
            step += 1

            def settle(step=step, ids=ids, measured=measured) -> None:
                """Read a step's metrics; this waits for the step to be done."""
                values = {name: float(value) for name, value in measured.items()}
                _require_finite(values, step, ids)
                if step % loop.log_steps == 0 or step == loop.steps:
                    values["tokens/s"] = rate.take()
                    show(step, values["loss"], values["tokens/s"])
                    log.write(step, **values)

            # the device works on this step while the host reads the one before
            if pending is not None:
                pending()
            pending = settle
            last, stopping = step == loop.steps, stop(step)
            due = evaluate is not None and (last or step % loop.evaluate_steps == 0)
            saving = last or stopping or step % loop.checkpoint_steps == 0
            if due or saving:
                # nothing is measured or saved before this very step proved finite
                pending()
                pending = None
            if due:
                found = evaluate(lora.join(frozen, state.params))
                log.write(step, evaluation=found)
                metrics.print_evaluation(step, found)
                if found["loss"] < lowest:
                    lowest = found["loss"]
                    checkpoint.save_best(best, step, state.params, lowest)
                rate.take()
            if saving:
                checkpoint.save(saved, step, state, data)
            if stopping and not last:
                raise Preempted(step)

        params = state.params
        if best.latest is not None and best.latest.step != step:
            params = checkpoint.restore_best(best, abstract.params)
        measured = {"loss": lowest} if math.isfinite(lowest) else {}
        return lora.join(frozen, params), measured


def train_step(
    task: Task, tx, config: Config, placed, state: TrainState, frozen, batch: dict
):
    """One optimiser step on one batch. Returns the state and metrics (scalars).

    placed: the shardings of the state; frozen: the parameters that are not trained.
    """

    def loss_sums(params, batch, key):
        return task.loss_sums(lora.join(frozen, params), batch, key)

    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    (loss, count), grads = accumulate(
        loss_sums, config.loop.microbatches, placed.params, task.shared
    )(state.params, batch, key)
    count = jnp.maximum(count, 1e-9)
    grads = jax.tree.map(lambda g: g / count, grads)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    measured = {
        "loss": loss / count,
        "count": count,
        "gradient norm": optax.global_norm(grads),
        "learning rate": optimizer.schedule(config.optimizer, config.loop.steps)(
            state.step
        ),
    }
    return TrainState(state.step + 1, params, opt_state), measured


def accumulate(loss_sums, microbatches: int, places, shared: tuple[str, ...] = ()):
    """loss_sums with its gradient, over `microbatches` parts of the rows, all summed.

    Sums, so that dividing once by the count gives what one large batch gives. Part i
    holds the rows i, i + n, i + 2n ...: each device keeps its own rows. The gradient
    lies in `places`, as the parameters do: left to itself XLA keeps more of it than its
    share on every device.
    """

    def with_sums(params, batch, key):
        loss, count = loss_sums(params, batch, key)
        return loss, (loss, count.astype(jnp.float32))

    def part(params, batch, key):
        grads, sums = jax.grad(with_sums, has_aux=True)(params, batch, key)
        return sums, jax.lax.with_sharding_constraint(grads, places)

    def run(params, batch, key):
        if microbatches == 1:
            return part(params, batch, key)
        whole = {name: batch[name] for name in shared}
        rows = {
            name: leaf.reshape(-1, microbatches, *leaf.shape[1:]).swapaxes(0, 1)
            for name, leaf in batch.items()
            if name not in shared
        }

        def add(total, i_rows):
            i, rows = i_rows
            found = part(params, whole | rows, jax.random.fold_in(key, i))
            return jax.tree.map(jnp.add, total, found), None

        zero = jax.eval_shape(
            part, params, whole | {k: v[0] for k, v in rows.items()}, key
        )
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), zero)
        return jax.lax.scan(add, zero, (jnp.arange(microbatches), rows))[0]

    return run


def compile_step(task: Task, tx, config: Config, placed, abstract, frozen, batch):
    """The step compiled for these shapes; the state is donated and stays where it is."""
    step = jax.jit(
        functools.partial(train_step, task, tx, config, placed),
        donate_argnums=0,
        out_shardings=(placed, None),
    )
    return step.lower(abstract, frozen, batch).compile()


def init_state(task: Task, tx, placed: TrainState, seed: int) -> TrainState:
    """A fresh state, every array born in its sharding."""
    params = task.init(jax.random.key(seed), placed.params)
    opt_state = jax.jit(tx.init, out_shardings=placed.opt_state)(params)
    step = jax.device_put(jnp.zeros((), jnp.int32), placed.step)
    return TrainState(step, params, opt_state)


def abstract_state(task: Task, tx) -> TrainState:
    """Shapes and dtypes of the state; nothing is computed."""
    params, _ = task.split(task.abstract_params())
    step = jax.ShapeDtypeStruct((), jnp.int32)
    return TrainState(step, params, jax.eval_shape(tx.init, params))


def state_shardings(task: Task, tx, mesh: Mesh) -> TrainState:
    """Where each array of the state lies."""
    params, _ = task.split(task.param_shardings(mesh))
    abstract, _ = task.split(task.abstract_params())
    moments = optimizer.state_shardings(tx, abstract, params, mesh)
    return TrainState(sharding.replicated(mesh), params, moments)


def _require_finite(values: dict[str, float], step: int, ids: list[list[str]]) -> None:
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        names = [name for row in ids for name in row]
        raise NotFinite(
            f"step {step}: {', '.join(wrong)} not finite; nothing was saved after it. "
            f"Examples of this batch: {' '.join(names)}"
        )


class _Stop(BaseException):
    """A stop request, while data was being read."""


@contextlib.contextmanager
def _stop_requests() -> Iterator[tuple[Callable[[int], bool], Callable]]:
    """Yields stop(step): has SIGTERM come (to any process, where there are many)?

    And reading(), a context that SIGTERM breaks off with _Stop: data may never come. Of
    many processes none may leave the others waiting for its batch; there it does nothing.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point, contextlib.nullcontext
        return
    requested, is_reading = [], []

    def request(*_) -> None:
        requested.append(True)
        if is_reading:
            raise _Stop

    @contextlib.contextmanager
    def reading() -> Iterator[None]:
        is_reading.append(True)
        try:
            if requested:
                raise _Stop
            yield
        finally:
            is_reading.clear()

    before = signal.signal(signal.SIGTERM, request)
    try:
        yield lambda step: bool(requested), reading
    finally:
        signal.signal(signal.SIGTERM, before)


def evaluator(measure, batches: list[dict], mesh: Mesh) -> Evaluate:
    """evaluate(params) -> the mean of each measure over fixed batches.

    measure(params, batch) gives name -> (sum, count).
    """
    run = jax.jit(measure)
    batches = [{k: v for k, v in batch.items() if k != "ids"} for batch in batches]

    def evaluate(params: dict) -> dict[str, float]:
        totals: dict[str, np.ndarray] = {}
        with jax.set_mesh(mesh):
            for batch in batches:
                found = run(params, sharding.host_batch_to_global(batch, mesh))
                for name, pair in jax.device_get(found).items():
                    totals[name] = totals.get(name, 0) + np.array(pair, np.float64)
        return {
            name: float(total / max(count, 1e-9))
            for name, (total, count) in totals.items()
        }

    return evaluate
