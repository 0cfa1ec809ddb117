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
from insgenel_jax.models.flops import count_flops
from insgenel_jax.training import parameters
from insgenel_jax.training.data.decisions import FORCED, OPEN, SKIP, SPAN, TITLE
from insgenel_jax.training.task import Task

Sums = dict[str, tuple[jax.Array, jax.Array]]  # name -> sum, count


def generator_task(
    config: ModelConfig,
    scored: int = 0,
    pretrained: str = "",
    allowed_edges: bool = False,
) -> Task:
    """Next-token loss on the target alone, by teacher forcing (*paper*, eq. 1).

    pretrained: a model directory to begin with ("": from scratch). allowed_edges: among
    the tokens that decoding allows, see training.settings.
    scored: at how many positions of a row logits are formed, those of highest weight
    (0: at all). The loss is the same as long as no other position has weight.
    """
    return Task(
        init=functools.partial(parameters.init, config, pretrained),
        load_frozen=functools.partial(parameters.load_frozen, config, pretrained),
        split=functools.partial(parameters.split, config),
        abstract_params=functools.partial(models.abstract_params, config),
        param_shardings=functools.partial(models.param_shardings, config),
        loss_sums=functools.partial(loss_sums, config, scored, allowed_edges),
        tokens=lambda batch: int(np.count_nonzero(batch["segments"])),
        flops=functools.partial(step_flops, config, scored),
    )


def step_flops(config: ModelConfig, scored: int, batch: dict, _: int) -> float:
    """FLOPs of a step on a batch, or on arrays of its shapes; see models/flops.py."""
    rows, length = batch["tokens"].shape
    return count_flops(config, rows * length, length, rows * (scored or length)).step


def loss_sums(
    config: ModelConfig,
    scored: int,
    allowed_edges: bool,
    params: dict,
    batch: dict,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The weighted sum of losses over packed rows, and the sum of weights."""
    hidden = generator_hidden(config, params, batch, key)
    targets, weights = batch["targets"], batch["weights"]
    others, biases = batch["others"], batch["biases"]
    if scored:
        weights, at = jax.lax.top_k(weights, scored)  # [B scored]
        targets = jnp.take_along_axis(targets, at, axis=1)
        hidden, others, biases = (
            jnp.take_along_axis(x, at[..., None], axis=1)
            for x in (hidden, others, biases)
        )
    logits = models.unembed(config, params, hidden)
    if allowed_edges:
        losses = edge_losses(edge_logits(logits, targets, others, biases))
    else:
        losses = token_losses(logits, targets)
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


def edge_logits(
    logits: Float[Array, "B T V"],
    targets: Int[Array, "B T"],
    others: Int[Array, "B T O"],
    biases: Float[Array, "B T E"],
) -> Float[Array, "B T E"]:
    """Logit + bias of the target, then of the O = E - 1 other edges; -inf for none."""
    edges = jnp.concatenate([targets[..., None], others], axis=-1)
    found = jnp.take_along_axis(logits, jnp.maximum(edges, 0), axis=-1) + biases
    return jnp.where(edges < 0, -jnp.inf, found)


def edge_losses(edges: Float[Array, "B T E"]) -> Float[Array, "B T"]:
    """-log p(target) among the allowed edges, the target being the first of them."""
    with jax.named_scope("loss"):
        return jax.nn.logsumexp(edges, axis=-1) - edges[..., 0]


def sum_measures(
    config: ModelConfig, allowed_edges: bool, params: dict, batch: dict
) -> Sums:
    """`judge` of the model's logits on a batch, under teacher forcing."""
    hidden = generator_hidden(config, params, batch)
    return judge(models.unembed(config, params, hidden), allowed_edges, batch)


def judge(logits: Float[Array, "B T V"], allowed_edges: bool, batch: dict) -> Sums:
    """Sums and counts of the loss and of how often the right edge wins.

    The right one must have a higher logit, with its bias, than the other allowed edges:
    OPEN where a link begins ("open recall"), copying where a match is not linked ("skip
    recall"), the mention's end ("span accuracy"), the tokens at which titles part
    ("title accuracy"). Where no other edge is known (a forced token, or a title that
    the dictionary does not have), it must be the first of the whole vocabulary.
    allowed_edges: whether the loss is that of the allowed edges.
    """
    targets, kinds, weights = batch["targets"], batch["kinds"], batch["weights"]
    edges = edge_logits(logits, targets, batch["others"], batch["biases"])
    losses = edge_losses(edges) if allowed_edges else token_losses(logits, targets)
    right = jnp.where(
        batch["others"][..., 0] < 0,
        jnp.argmax(logits, axis=-1) == targets,
        edges[..., 0] > jnp.max(edges[..., 1:], axis=-1),
    )
    return {
        "loss": (jnp.sum(losses * weights), jnp.sum(weights)),
        "open recall": _rate(right, kinds == OPEN),
        "skip recall": _rate(right, kinds == SKIP),
        "span accuracy": _rate(right, kinds == SPAN),
        "title accuracy": _rate(right, kinds == TITLE),
        "copy accuracy": _rate(right, kinds == FORCED),
    }


def _rate(
    right: Bool[Array, "B T"], where: Bool[Array, "B T"]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    return jnp.sum(right & where), jnp.sum(where)


def generator_evaluator(
    config: ModelConfig,
    batches: Sequence[dict],
    mesh: Mesh,
    allowed_edges: bool = False,
) -> Callable[[dict], dict[str, float]]:
    """evaluate(params) -> the mean of each measure of `judge` over fixed batches."""
    run = jax.jit(functools.partial(sum_measures, config, allowed_edges))
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
