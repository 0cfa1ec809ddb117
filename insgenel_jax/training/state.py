"""The train state: all that a step changes, its shapes, and where its arrays lie."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from insgenel_jax import sharding
from insgenel_jax.training import optimizer
from insgenel_jax.training.task import Task


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "params", "opt_state"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The steps done, the parameters that are trained, and the optimizer's state.

    The same tree also holds what stands for each array: its shape, or its sharding.
    """

    step: Any
    params: dict
    opt_state: Any


def init_state(
    task: Task, tx: optax.GradientTransformation, places: TrainState, seed: int
) -> TrainState:
    """A fresh state, every array born in its sharding."""
    params = task.init(jax.random.key(seed), places.params)
    opt_state = jax.jit(tx.init, out_shardings=places.opt_state)(params)
    step = jax.device_put(jnp.zeros((), jnp.int32), places.step)
    return TrainState(step, params, opt_state)


def abstract_state(task: Task, tx: optax.GradientTransformation) -> TrainState:
    """Shapes and dtypes of the state; nothing is computed."""
    params, _ = task.split(task.abstract_params())
    step = jax.ShapeDtypeStruct((), jnp.int32)
    return TrainState(step, params, jax.eval_shape(tx.init, params))


def state_shardings(
    task: Task, tx: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The sharding of each array of the state."""
    params, _ = task.split(task.param_shardings(mesh))
    abstract, _ = task.split(task.abstract_params())
    moments = optimizer.state_shardings(tx, abstract, params, mesh)
    return TrainState(sharding.replicated(mesh), params, moments)


def placed_state(abstract: TrainState, places: TrainState) -> TrainState:
    """Shapes and dtypes of the state, with their shardings, as restoring needs them."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        abstract,
        places,
    )
