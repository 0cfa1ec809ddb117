"""The generator's task: the loss on packed targets, and how it is measured."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from insgenel_jax import models, sharding
from insgenel_jax.models.attention import causal_mask
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.training import parameters
from insgenel_jax.training.data.decisions import FORCED, OPEN, SKIP, SPAN, TITLE
from insgenel_jax.training.task import Task

Sums = dict[str, tuple[jax.Array, jax.Array]]  # name -> sum, count


def generator_task(config: ModelConfig, scored: int = 0, pretrained: str = "") -> Task:
    """Next-token loss on the target alone, by teacher forcing (*paper*, eq. 1).

    pretrained: a model directory to begin with ("": from scratch).
    scored: at how many positions of a row logits are formed, those of highest weight
    (0: at all). The loss is the same as long as no other position has weight.
    """
    return Task(
        init=functools.partial(parameters.init, config, pretrained),
        load_frozen=functools.partial(parameters.load_frozen, config, pretrained),
        split=functools.partial(parameters.split, config),
        abstract_params=functools.partial(models.abstract_params, config),
        param_shardings=functools.partial(models.param_shardings, config),
        loss_sums=functools.partial(loss_sums, config, scored),
        tokens=lambda batch: int(np.count_nonzero(batch["segments"])),
    )


def loss_sums(
    config: ModelConfig, scored: int, params: dict, batch: dict, key: PRNGKeyArray
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The weighted sum of losses over packed rows, and the sum of weights."""
    hidden = generator_hidden(config, params, batch, key)
    targets, weights = batch["targets"], batch["weights"]
    if scored:
        weights, at = jax.lax.top_k(weights, scored)  # [B scored]
        hidden = jnp.take_along_axis(hidden, at[..., None], axis=1)
        targets = jnp.take_along_axis(targets, at, axis=1)
    losses = token_losses(models.unembed(config, params, hidden), targets)
    return jnp.sum(losses * weights), jnp.sum(weights)


def generator_hidden(
    config: ModelConfig, params: dict, batch: dict, key: PRNGKeyArray | None = None
) -> Float[Array, "B T D"]:
    """Hidden states of packed rows; a token attends within its own segment only."""
    hidden, _ = models.build(config).apply(
        {"params": params},
        batch["tokens"],
        batch["positions"],
        causal_mask(batch["segments"]),
        deterministic=key is None or not config.dropout,
        rngs={} if key is None else {"dropout": key},
    )
    return hidden


def token_losses(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"]
) -> Float[Array, "B T"]:
    """-log p(target) at every position, in float32."""
    with jax.named_scope("loss"):
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)


def margins(logits: Float[Array, "B T V"], batch: dict) -> Float[Array, "B T"]:
    """Margin: the target's logit minus the logit of the other allowed edge.

    Where there is no single other edge (the rival is NO_RIVAL), the logit of token 0 is
    taken in its place, so the result means nothing there and must not be used.
    """
    both = jnp.stack([batch["targets"], jnp.maximum(batch["rivals"], 0)], axis=-1)
    both = jnp.take_along_axis(logits, both, axis=-1)
    return both[..., 0] - both[..., 1]


def sum_measures(config: ModelConfig, params: dict, batch: dict) -> Sums:
    """`judge` of the model's logits on a batch, under teacher forcing."""
    hidden = generator_hidden(config, params, batch)
    return judge(models.unembed(config, params, hidden), batch)


def judge(logits: Float[Array, "B T V"], batch: dict) -> Sums:
    """Sums and counts of the loss and of how often the right edge wins.

    Between two allowed edges the right one must have the higher logit: OPEN where a
    link begins ("open recall"), copying where a match is not linked ("skip recall"),
    and the mention's end ("span accuracy"). A token of a title, or one that is forced,
    must be the first of the whole vocabulary ("title accuracy", "copy accuracy"), which
    is harder than in decoding, where it competes with the allowed tokens only.
    """
    losses, weights = token_losses(logits, batch["targets"]), batch["weights"]
    kinds, decided = batch["kinds"], batch["rivals"] >= 0
    right = margins(logits, batch) > 0
    best = jnp.argmax(logits, axis=-1) == batch["targets"]
    return {
        "loss": (jnp.sum(losses * weights), jnp.sum(weights)),
        "open recall": _rate(right, decided & (kinds == OPEN)),
        "skip recall": _rate(right, decided & (kinds == SKIP)),
        "span accuracy": _rate(right, decided & (kinds == SPAN)),
        "title accuracy": _rate(best, kinds == TITLE),
        "copy accuracy": _rate(best, kinds == FORCED),
    }


def _rate(
    right: Bool[Array, "B T"], where: Bool[Array, "B T"]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    return jnp.sum(right & where), jnp.sum(where)


def generator_evaluator(
    config: ModelConfig, batches: Sequence[dict], mesh: Mesh
) -> Callable[[dict], dict[str, float]]:
    """evaluate(params) -> the mean of each measure of `judge` over fixed batches."""
    run = jax.jit(functools.partial(sum_measures, config))
    batches = [{k: v for k, v in batch.items() if k != "ids"} for batch in batches]

    def evaluate(params: dict) -> dict[str, float]:
        totals: dict[str, np.ndarray] = {}
        with jax.set_mesh(mesh):
            for batch in batches:
                sums = run(params, sharding.host_batch_to_global(batch, mesh))
                for name, pair in jax.device_get(sums).items():
                    totals[name] = totals.get(name, 0) + np.array(pair, np.float64)
        return {
            name: float(total / max(count, 1e-9))
            for name, (total, count) in totals.items()
        }

    return evaluate
