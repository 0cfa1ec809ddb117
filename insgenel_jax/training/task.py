"""What the training loop has to know of a task; generator.py, retriever.py make it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class Task:
    """Parameters, loss and token count of a task.

    split(tree with a leaf for each parameter) gives the leaves of parameters that are
    trained, and those that are not; init(key, shardings) makes the former,
    load_frozen(shardings) the latter. All else is of the whole model. loss_sums(params,
    batch, key) gives the sum of losses and their count (weight) over the rows of a
    batch; `key` is for dropout. `shared` names the leaves of a batch that have no row
    per example, which gradient accumulation leaves whole. tokens(batch) counts what is
    read. flops(batch, microbatches) counts the FLOPs of a step, from shapes alone.
    """

    init: Callable[[PRNGKeyArray, dict | None], dict]
    load_frozen: Callable[[dict], dict]
    split: Callable[[dict], tuple[dict, dict]]
    abstract_params: Callable[[], dict]
    param_shardings: Callable[[Mesh], dict]
    loss_sums: Callable[[dict, dict, PRNGKeyArray], tuple[jax.Array, jax.Array]]
    tokens: Callable[[dict], int]
    flops: Callable[[dict, int], float]
    shared: tuple[str, ...] = ()
