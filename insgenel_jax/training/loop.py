"""The training loop: a task, its data and settings in; trained parameters out.

`train_step` is what the device does, compiled once; `train` is what the host does
around it: read, log, evaluate, save, stop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from orbax.checkpoint import v1 as ocp

from insgenel_jax import sharding
from insgenel_jax.models import lora
from insgenel_jax.training import checkpoint, metrics, optimizer, signals
from insgenel_jax.training.chips import find_chip
from insgenel_jax.training.profile import Profile
from insgenel_jax.training.settings import Config, LoopSettings, OptimizerSettings
from insgenel_jax.training.state import (
    TrainState,
    abstract_state,
    init_state,
    placed_state,
    state_shardings,
)
from insgenel_jax.training.task import Task

# leaves of a batch that only the host reads
HOST_ONLY = ("ids", "kinds")

# Data iterators in which SIGTERM interrupted the reading of a batch. The list keeps
# them alive: deleting an iterator closes it, and closing waits for the batch, which may
# never come. When the process ends, nothing waits for it.
_UNCLOSED: list[grain.DatasetIterator] = []

Evaluate = Callable[[dict], dict[str, float]]
Refresh = Callable[[int, dict], None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What stays the same from the first step to the last.

    tx: the optimizer. places, abstract: the train state's shardings, and its shapes
    with these shardings.
    """

    task: Task
    optimizer: OptimizerSettings
    loop: LoopSettings
    seed: int
    mesh: Mesh
    tx: optax.GradientTransformation
    places: TrainState
    abstract: TrainState


def make_plan(
    task: Task,
    settings: OptimizerSettings,
    loop: LoopSettings,
    seed: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Plan:
    """The plan of a task, on these devices [all]. Raises ValueError for a misfit."""
    mesh = sharding.make_mesh(loop.data, loop.fsdp, loop.tensor, devices)
    tx = optimizer.build(settings, loop.steps)
    places = state_shardings(task, tx, mesh)
    abstract = placed_state(abstract_state(task, tx), places)
    return Plan(task, settings, loop, seed, mesh, tx, places, abstract)


# --- the step ---------------------------------------------------------------------


def train_step(
    plan: Plan, state: TrainState, frozen: dict, batch: dict
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimizer step on one batch. Returns the state and metrics (scalars).

    frozen: the parameters that are not trained.
    """
    key = jax.random.fold_in(jax.random.key(plan.seed), state.step)
    accumulated = accumulate(
        functools.partial(_loss_sums, plan.task, frozen),
        plan.loop.microbatches,
        plan.places.params,
        plan.task.shared,
    )
    (loss, count), grads = accumulated(state.params, batch, key)
    count = jnp.maximum(count, 1e-9)
    grads = jax.tree.map(lambda g: g / count, grads)
    updates, opt_state = plan.tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    rate = optimizer.schedule(plan.optimizer, plan.loop.steps)(state.step)
    values = {
        "loss": loss / count,
        "count": count,
        "gradient norm": optax.tree.norm(grads),
        "learning rate": rate,
    }
    return TrainState(state.step + 1, params, opt_state), values


def _loss_sums(task: Task, frozen: dict, params: dict, batch: dict, key):
    return task.loss_sums(lora.join(frozen, params), batch, key)


def accumulate(
    loss_sums: Callable,
    microbatches: int,
    places: dict,
    shared: tuple[str, ...] = (),
) -> Callable:
    """Gradient accumulation: loss_sums and its gradient over parts of the rows, summed.

    The result takes (params, batch, key) and gives (loss, count), gradient. All are
    sums, so that one division by the count gives what one large batch gives; a mean of
    means would not, where parts have different counts. Part i holds the rows i, i + n,
    i + 2n ..., so each device keeps its own rows. The gradient lies in `places`, as the
    parameters do: left to itself XLA keeps more of it on every device.
    """

    def with_sums(params, batch, key):
        loss, count = loss_sums(params, batch, key)
        return loss, (loss, count.astype(jnp.float32))

    def part(params, batch, key):
        grads, sums = jax.grad(with_sums, has_aux=True)(params, batch, key)
        return sums, jax.lax.with_sharding_constraint(grads, places)

    def parts(params, batch, key):
        whole = {name: batch[name] for name in shared}
        rows = {
            name: leaf.reshape(-1, microbatches, *leaf.shape[1:]).swapaxes(0, 1)
            for name, leaf in batch.items()
            if name not in shared
        }

        def add(total, i_rows):
            i, rows = i_rows
            new = part(params, whole | rows, jax.random.fold_in(key, i))
            return jax.tree.map(jnp.add, total, new), None

        first = {name: leaf[0] for name, leaf in rows.items()}
        zero = jax.eval_shape(part, params, whole | first, key)
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), zero)
        return jax.lax.scan(add, zero, (jnp.arange(microbatches), rows))[0]

    return part if microbatches == 1 else parts


def compile_step(plan: Plan, frozen: dict, batch: dict) -> jax.stages.Compiled:
    """The step (state, frozen, batch) -> state, metrics, for a batch of these shapes.

    The state is donated and stays where it is.
    """
    step = jax.jit(
        functools.partial(train_step, plan),
        donate_argnums=0,
        out_shardings=(plan.places, None),
    )
    return step.lower(plan.abstract, frozen, batch).compile()


# --- the loop ---------------------------------------------------------------------


@dataclasses.dataclass
class Run:
    """What the steps of one run share on the host, beside the train state.

    frozen: the parameters that are not trained. saved, best: checkpoints of the state,
    and of the parameters of the best evaluation, whose loss is `lowest`.
    """

    plan: Plan
    frozen: dict
    saved: ocp.training.Checkpointer
    best: ocp.training.Checkpointer
    lowest: float
    log: metrics.MetricsLog
    rate: metrics.Rate
    late: metrics.LateMetrics
    profile: Profile


def train(
    task: Task,
    config: Config,
    data: grain.DatasetIterator,
    workdir: Path,
    *,
    evaluate: Evaluate | None = None,
    refresh: Refresh | None = None,
    profile: Path | None = None,
) -> dict:
    """Train, or go on where the workdir stands; returns the parameters.

    evaluate(params) must give a "loss": the parameters with the lowest are returned,
    else the last. refresh(step, params) runs before each step's batch is taken. All of
    these parameters are the whole model's; the workdir keeps those that are trained.
    profile: a folder for a profile of some steps.
    Raises metrics.NotFinite, and signals.Preempted after SIGTERM.
    """
    plan = make_plan(task, config.optimizer, config.loop, config.seed)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(plan.mesh))
        stop = stack.enter_context(signals.stop_requests())
        saved, best = (
            stack.enter_context(checkpoint.open_checkpoints(workdir / name, keep))
            for name, keep in (("checkpoints", checkpoint.KEPT), ("best", 1))
        )
        frozen = task.load_frozen(task.split(task.param_shardings(plan.mesh))[1])
        # the workdir's own checkpoint comes first, then a fresh start
        state = checkpoint.restore(saved, plan.abstract, data)
        if state is None:
            state = init_state(task, plan.tx, plan.places, plan.seed)
        step = int(state.step)
        run = _begin(stack, plan, frozen, saved, best, step, workdir, profile)
        state = _run_steps(run, state, data, stop, evaluate, refresh)
        params = state.params
        if best.latest is not None and best.latest.step != plan.loop.steps:
            params = checkpoint.restore_best(best, plan.abstract.params)
        return lora.join(frozen, params)


def _begin(
    stack: contextlib.ExitStack,
    plan: Plan,
    frozen: dict,
    saved: ocp.training.Checkpointer,
    best: ocp.training.Checkpointer,
    step: int,
    workdir: Path,
    profile: Path | None,
) -> Run:
    """Open the log and the progress bar of a run that begins after `step` steps."""
    log, rate = metrics.MetricsLog(workdir / "metrics.jsonl", step), metrics.Rate()
    stack.callback(log.close)
    steps = plan.loop.steps
    show = stack.enter_context(metrics.show_progress(step, steps))
    late = metrics.LateMetrics(log, show, rate, plan.loop.log_steps, steps)
    lowest = checkpoint.best_loss(best)
    profiled = Profile(profile, late.settle)
    stack.callback(profiled.close)
    return Run(plan, frozen, saved, best, lowest, log, rate, late, profiled)


def _run_steps(
    run: Run,
    state: TrainState,
    data: grain.DatasetIterator,
    stop: signals.StopRequests,
    evaluate: Evaluate | None,
    refresh: Refresh | None,
) -> TrainState:
    """All steps that are left. Returns the state after the last."""
    loop, step, compiled = run.plan.loop, int(state.step), None
    while step < loop.steps:
        if refresh is not None:
            refresh(step, lora.join(run.frozen, state.params))
        batch, ids = _read_batch(run, state, step, data, stop)
        if compiled is None:
            compiled = _compile(run, state, step, batch)
        state, values = compiled(state, run.frozen, batch)
        step += 1
        run.late.add(metrics.Dispatched(step, ids, values))
        run.profile.count()
        last, stopping = step == loop.steps, stop.arrived(step)
        evaluating = last or step % loop.evaluate_steps == 0
        saving = last or stopping or step % loop.checkpoint_steps == 0
        if saving or (evaluating and evaluate is not None):
            # nothing is evaluated or saved before this very step proved finite
            run.late.settle()
        if evaluating and evaluate is not None:
            _evaluate(run, state, step, evaluate)
        if saving:
            checkpoint.save(run.saved, step, state, data)
        if stopping and not last:
            raise signals.Preempted(step)
    return state


def _read_batch(
    run: Run,
    state: TrainState,
    step: int,
    data: grain.DatasetIterator,
    stop: signals.StopRequests,
) -> tuple[dict[str, jax.Array], list[list[str]]]:
    """The next batch on the devices, and its examples.

    Raises Preempted where SIGTERM comes first, once the state is saved.
    """
    place = data.get_state()
    try:
        with stop.reading():
            batch = next(data)
    except signals.ReadingStopped:
        run.late.settle()
        _UNCLOSED.append(data)
        # the reading that was broken off may have moved the data
        checkpoint.save(run.saved, step, state, checkpoint.Place(place))
        raise signals.Preempted(step) from None
    leaves = {name: leaf for name, leaf in batch.items() if name not in HOST_ONLY}
    run.rate.add(run.plan.task.tokens(leaves) * jax.process_count())
    return sharding.host_batch_to_global(leaves, run.plan.mesh), batch["ids"]


def _compile(
    run: Run, state: TrainState, step: int, batch: dict[str, Any]
) -> jax.stages.Compiled:
    """Compile the step, print and log what it takes."""
    began = time.perf_counter()
    compiled = compile_step(run.plan, run.frozen, batch)
    seconds = time.perf_counter() - began
    plan = run.plan
    flops = plan.task.flops(batch, plan.loop.microbatches)
    if (chip := find_chip(plan.mesh.devices.flat[0])) is not None:
        run.late.peak_steps = chip.peak * plan.mesh.size / flops
    facts = metrics.print_header(
        state.params, run.frozen, plan.mesh, compiled, seconds, flops
    )
    run.log.write(step, header=facts)
    return compiled


def _evaluate(run: Run, state: TrainState, step: int, evaluate: Evaluate) -> None:
    """Evaluate the parameters; keep them if they are the best so far."""
    values = evaluate(lora.join(run.frozen, state.params))
    run.log.write(step, evaluation=values)
    metrics.print_evaluation(step, values)
    if values["loss"] < run.lowest:
        run.lowest = values["loss"]
        checkpoint.save_best(run.best, step, state.params, run.lowest)
    run.rate.take()  # the time of an evaluation is no time of training
