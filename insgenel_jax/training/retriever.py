"""The retriever's task: multi-label NCE over a bi-encoder, and how it is measured."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from insgenel_jax import models, sharding
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.models.flops import count_flops
from insgenel_jax.retrieval.encoder import embed, encode, fixed_batches
from insgenel_jax.retrieval.retriever import encoder_names, of_role
from insgenel_jax.training import parameters
from insgenel_jax.training.task import Task


def retriever_task(
    config: ModelConfig, pad: int, pretrained: str = "", shared: bool = False
) -> Task:
    """Multi-label NCE over a bi-encoder (*paper*, 3.2).

    pretrained: a model directory that both encoders begin with ("": from scratch).
    shared: they are one (*paper*: two that share nothing).
    """
    names = encoder_names(shared)
    return Task(
        init=functools.partial(init, config, pretrained, names),
        load_frozen=functools.partial(load_frozen, config, pretrained),
        split=functools.partial(parameters.split, config),
        abstract_params=lambda: dict.fromkeys(names, models.abstract_params(config)),
        param_shardings=lambda mesh: dict.fromkeys(
            names, models.param_shardings(config, mesh)
        ),
        loss_sums=functools.partial(loss_sums, config, pad),
        tokens=functools.partial(count_tokens, pad),
        flops=functools.partial(step_flops, config),
        shared=("entities",),
    )


def init(
    config: ModelConfig,
    pretrained: str,
    names: Sequence[str],
    key: PRNGKeyArray,
    shardings: dict | None,
) -> dict:
    """The parameters of the encoders `names` that are trained, at their start.

    Two encoders begin with equal parameters, as from one pretrained model: so a name
    in a window and the same name in a title are near each other from the start.
    """
    places = shardings or dict.fromkeys(names)
    return {
        name: parameters.init(config, pretrained, key, place)
        for name, place in places.items()
    }


def load_frozen(config: ModelConfig, pretrained: str, shardings: dict) -> dict:
    """The parameters of the encoders that are not trained."""
    return {
        name: parameters.load_frozen(config, pretrained, place)
        for name, place in shardings.items()
    }


def step_flops(config: ModelConfig, batch: dict, microbatches: int) -> float:
    """FLOPs of a step on a batch, or on arrays of its shapes; see models/flops.py.

    Each of the microbatches encodes the entities of the batch anew.
    """
    (rows, width), (entities, length) = (
        batch[name].shape for name in ("windows", "entities")
    )
    windows = count_flops(config, rows * width, width).step
    table = microbatches * count_flops(config, entities * length, length).step
    return windows + table + 3 * 2 * rows * entities * config.dim


def count_tokens(pad: int, batch: dict) -> int:
    """Tokens of the windows and entities of a batch."""
    return sum(
        int(np.count_nonzero(batch[name] != pad)) for name in ("windows", "entities")
    )


def loss_sums(
    config: ModelConfig, pad: int, params: dict, batch: dict, key: PRNGKeyArray
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """`nce` of a batch of windows and entities."""
    mention, entity = jax.random.split(key)
    queries = encode(config, of_role(params, "mention"), batch["windows"], pad, mention)
    entities = encode(config, of_role(params, "entity"), batch["entities"], pad, entity)
    return nce(queries @ entities.T, batch["gold"], batch["negatives"])


def nce(
    scores: Float[Array, "B M"] | Float[np.ndarray, "B M"],
    gold: Bool[Array, "B M"] | Bool[np.ndarray, "B M"],
    negatives: Bool[Array, "B M"] | Bool[np.ndarray, "B M"],
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Multi-label NCE: each gold against the negatives alone, never another gold.

    Returns the sum over golds of -log(exp s(g) / (exp s(g) + sum over negatives n of
    exp s(n))), and the number of golds (*paper*, 3.2).
    """
    with jax.named_scope("loss"):
        # finite, so that a window without a negative has a gradient (of 0)
        against = jnp.where(negatives, scores, -1e30)
        against = jax.nn.logsumexp(against, axis=1, keepdims=True)  # [B, 1]
        losses = jax.nn.softplus(against - scores)  # log(1 + exp(against - score))
        return jnp.sum(jnp.where(gold, losses, 0.0)), jnp.sum(gold)


def retriever_measures(
    scores: Float[np.ndarray, "N E"], gold: Bool[np.ndarray, "N E"]
) -> dict[str, float]:
    """NCE of the golds against all other entities, and their recall at 1, 10, 50, 100.

    A gold's rank counts the entities before it that are no gold of its window.
    """
    loss, count = nce(scores, gold, ~gold)
    measures = {"loss": float(loss) / max(int(count), 1)}
    rows, columns = np.nonzero(gold)
    wrong = np.where(gold, -np.inf, scores)
    ranks = (wrong[rows] > scores[rows, columns][:, None]).sum(1)
    for k in (1, 10, 50, 100):
        measures[f"recall@{k}"] = float((ranks < k).mean()) if len(ranks) else 0.0
    return measures


def retriever_evaluator(
    config: ModelConfig,
    windows: Sequence[dict],
    entities: Int[np.ndarray, "E T"],
    pad: int,
    pool: int,
) -> Callable[[dict], dict[str, float]]:
    """evaluate(params) over windows (as examples make them) and a pool of entities.

    The pool holds the windows' golds and is filled up with other entities by chance.
    """
    golds = sorted({int(e) for window in windows for e in window["golds"]})
    others = np.random.default_rng(0).permutation(len(entities)).tolist()
    known = set(golds)
    pooled = golds + [e for e in others if e not in known][: max(pool - len(golds), 0)]
    column = {entity: m for m, entity in enumerate(pooled)}
    gold = np.zeros((len(windows), len(pooled)), bool)
    for row, window in zip(gold, windows, strict=True):
        row[[column[int(e)] for e in window["golds"]]] = True
    queries = np.stack([window["window"] for window in windows])
    texts = {"mention": queries, "entity": np.asarray(entities[pooled])}

    def evaluate(params: dict) -> dict[str, float]:
        params = sharding.gather(params)
        with sharding.locally() as mesh:
            vectors = {
                role: embed(
                    config,
                    of_role(params, role),
                    ids,
                    pad,
                    fixed_batches(*ids.shape),
                    mesh,
                )
                for role, ids in texts.items()
            }
        return retriever_measures(vectors["mention"] @ vectors["entity"].T, gold)

    return evaluate
