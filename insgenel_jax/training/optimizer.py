"""AdamW with warm-up and linear decay, from settings; the shardings of its state."""

from __future__ import annotations

from typing import Any

import jax
import optax
from jax.sharding import Mesh

from insgenel_jax.sharding import replicated
from insgenel_jax.training.settings import OptimizerSettings


def schedule(settings: OptimizerSettings, steps: int) -> optax.Schedule:
    """Step (from 0) -> learning rate: up to the peak, then down to 0 at `steps`."""
    warmup = settings.warmup_steps or round(settings.warmup_share * steps)
    warmup = max(min(warmup, steps - 1), 0)
    # the rate of step 0 is peak / warmup and not 0, so that it learns already
    peak, tail = settings.learning_rate, max(steps - warmup, 1)
    rise = optax.linear_schedule(peak / max(warmup, 1), peak, max(warmup - 1, 1))
    return optax.join_schedules([rise, optax.linear_schedule(peak, 0, tail)], [warmup])


def build(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """Clip by the global norm (unless clip is 0), then AdamW."""
    adamw = optax.adamw(
        schedule(settings, steps),
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    if not settings.clip:
        return adamw
    return optax.chain(optax.clip_by_global_norm(settings.clip), adamw)


def state_shardings(
    optimizer: optax.GradientTransformation,
    abstract_params: dict,
    param_shardings: dict,
    mesh: Mesh,
) -> Any:
    """The shardings of the optimizer's state, a tree like that of `optimizer.init`.

    Moments lie where their parameters lie; counters are whole on every device.
    """
    state = jax.eval_shape(optimizer.init, abstract_params)
    return optax.tree_map_params(
        optimizer,
        lambda _, placed: placed,
        state,
        param_shardings,
        transform_non_params=lambda _: replicated(mesh),
    )
