"""What each task minimises, as sums; and what is measured on a development set."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from insgenel_jax import models
from insgenel_jax.models.attention import Mask, causal_mask
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.training import parameters
from insgenel_jax.training.data.examples import FORCED, OPEN, SKIP, SPAN, TITLE

BLOCK = 256  # texts embedded at a time, outside of training steps

Sums = dict[str, tuple[jax.Array, jax.Array]]  # name -> sum, count


@dataclasses.dataclass(frozen=True)
class Task:
    """What the loop has to know of a task.

    split(tree with a leaf for each parameter) gives those that are trained and those
    that are not; init(key, shardings) makes the former, load_frozen(shardings) the
    latter. All else is of the whole model: loss_sums(params, batch, key) -> sum of
    losses, their count (weight), over the rows of a batch; `key` is for dropout.
    `shared` names the leaves of a batch that are not a row each, so that gradient
    accumulation leaves them whole. tokens(batch) counts what is read.
    """

    init: Callable[[PRNGKeyArray, dict | None], dict]
    load_frozen: Callable[[dict], dict]
    split: Callable[[dict], tuple[dict, dict]]
    abstract_params: Callable[[], dict]
    param_shardings: Callable[[Mesh], dict]
    loss_sums: Callable[[dict, dict, PRNGKeyArray], tuple[jax.Array, jax.Array]]
    tokens: Callable[[dict], int]
    shared: tuple[str, ...] = ()


# --- generator --------------------------------------------------------------------


def generator_task(config: ModelConfig, scored: int = 0, pretrained: str = "") -> Task:
    """Next-token loss on the target alone (*paper*, eq. 1).

    pretrained: a model directory to begin with ("": from scratch).
    scored: logits are formed at so many positions of a row, those of highest weight
    (0: at all). Where no more than those weigh anything the loss is the same.
    """

    def loss_sums(params, batch, key):
        hidden = generator_hidden(config, params, batch, key)
        targets, weights = batch["targets"], batch["weights"]
        if scored:
            weights, at = jax.lax.top_k(weights, scored)  # [B scored]
            hidden = jnp.take_along_axis(hidden, at[..., None], axis=1)
            targets = jnp.take_along_axis(targets, at, axis=1)
        losses = token_losses(models.unembed(config, params, hidden), targets)
        return jnp.sum(losses * weights), jnp.sum(weights)

    return Task(
        init=functools.partial(parameters.init, config, pretrained),
        load_frozen=functools.partial(parameters.load_frozen, config, pretrained),
        split=functools.partial(parameters.split, config),
        abstract_params=lambda: models.abstract_params(config),
        param_shardings=lambda mesh: models.param_shardings(config, mesh),
        loss_sums=loss_sums,
        tokens=lambda batch: int(np.count_nonzero(batch["segments"])),
    )


def generator_hidden(
    config: ModelConfig, params: dict, batch: dict, key: PRNGKeyArray | None = None
) -> Float[Array, "B T D"]:
    """Hidden states of packed rows; a token sees its own segment only."""
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


def lead(logits: Float[Array, "B T V"], batch: dict) -> Float[Array, "B T"]:
    """The target's logit less its rival's (of token 0 where there is none)."""
    both = jnp.stack([batch["targets"], jnp.maximum(batch["rivals"], 0)], axis=-1)
    both = jnp.take_along_axis(logits, both, axis=-1)
    return both[..., 0] - both[..., 1]


def generator_measures(config: ModelConfig):
    """measure(params, batch) -> what `judge` says of the model, teacher-forced."""

    def measure(params, batch) -> Sums:
        hidden = generator_hidden(config, params, batch)
        return judge(models.unembed(config, params, hidden), batch)

    return measure


def judge(logits: Float[Array, "B T V"], batch: dict) -> Sums:
    """The loss; how often the right one of two edges leads (OPEN against copying, copying
    against OPEN, the extent of a mention); how often a token of a title, or one without
    a choice, is first of the whole vocabulary (where the decoder only ranks the allowed).
    """
    losses, weights = token_losses(logits, batch["targets"]), batch["weights"]
    kinds, decided = batch["kinds"], batch["rivals"] >= 0
    right = lead(logits, batch) > 0
    best = jnp.argmax(logits, axis=-1) == batch["targets"]
    return {
        "loss": (jnp.sum(losses * weights), jnp.sum(weights)),
        "open recall": _rate(right, decided & (kinds == OPEN)),
        "skip recall": _rate(right, decided & (kinds == SKIP)),
        "span accuracy": _rate(right, decided & (kinds == SPAN)),
        "title accuracy": _rate(best, kinds == TITLE),
        "copy accuracy": _rate(best, kinds == FORCED),
    }


def _rate(right: Bool[Array, "B T"], where: Bool[Array, "B T"]):
    return jnp.sum(right & where), jnp.sum(where)


# --- retriever --------------------------------------------------------------------


def retriever_task(config: ModelConfig, pad: int, pretrained: str = "") -> Task:
    """Multi-label NCE over two encoders that share nothing (*paper*, 3.2).

    pretrained: a model directory that both begin with ("": from scratch).
    """

    def init(key, shardings):
        # both begin alike, as from one pretrained model: a name in a window and the same
        # name in a title are near each other from the start
        shardings = shardings or dict.fromkeys(("mention", "entity"))
        return {
            name: parameters.init(config, pretrained, key, place)
            for name, place in shardings.items()
        }

    def load_frozen(shardings):
        return {
            name: parameters.load_frozen(config, pretrained, shardings[name])
            for name in shardings
        }

    def loss_sums(params, batch, key):
        mention, entity = jax.random.split(key)
        queries = encode(config, params["mention"], batch["windows"], pad, mention)
        entities = encode(config, params["entity"], batch["entities"], pad, entity)
        return nce(queries @ entities.T, batch["gold"], batch["negatives"])

    return Task(
        init=init,
        load_frozen=load_frozen,
        split=functools.partial(parameters.split, config),
        abstract_params=lambda: dict.fromkeys(
            ("mention", "entity"), models.abstract_params(config)
        ),
        param_shardings=lambda mesh: dict.fromkeys(
            ("mention", "entity"), models.param_shardings(config, mesh)
        ),
        loss_sums=loss_sums,
        tokens=lambda batch: sum(
            int(np.count_nonzero(batch[name] != pad))
            for name in ("windows", "entities")
        ),
        shared=("entities",),
    )


def encode(
    config: ModelConfig,
    params: dict,
    tokens: jax.Array,
    pad: int,
    key: PRNGKeyArray | None = None,
) -> Float[Array, "N D"]:
    """Texts as token ids [N T], padded at their ends -> their [CLS] vectors, float32."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden, _ = models.build(config).apply(
        {"params": params},
        tokens,
        positions,
        Mask(lengths=jnp.sum(tokens != pad, axis=1)),  # not segments: cuDNN has none
        deterministic=key is None or not config.dropout,
        rngs={} if key is None else {"dropout": key},
    )
    return hidden[:, 0].astype(jnp.float32)


def nce(
    scores: Float[Array, "B M"], gold: Bool[Array, "B M"], negatives: Bool[Array, "B M"]
) -> tuple[jax.Array, jax.Array]:
    """Each gold against the negatives alone, never against another gold.

    -> sum over golds of -log(exp s(g) / (exp s(g) + sum over negatives exp s(n))),
    and the number of golds.
    """
    with jax.named_scope("loss"):
        # finite, so that a window without a negative has a gradient (of 0)
        against = jnp.where(negatives, scores, -1e30)
        against = jax.nn.logsumexp(against, axis=1, keepdims=True)  # [B, 1]
        losses = jax.nn.softplus(against - scores)  # log(1 + exp(against - score))
        return jnp.sum(jnp.where(gold, losses, 0.0)), jnp.sum(gold)


def embed_all(
    config: ModelConfig, pad: int
) -> Callable[[dict, Int[np.ndarray, "N T"]], Float[np.ndarray, "N D"]]:
    """embed(params, token ids of any number of texts) -> their vectors, by blocks."""
    run = jax.jit(lambda params, tokens: encode(config, params, tokens, pad))

    def embed(params, rows):
        found = []
        for start in range(0, len(rows), BLOCK):
            block = np.asarray(rows[start : start + BLOCK])
            filled = np.full((BLOCK, rows.shape[1]), pad, np.int32)
            filled[: len(block)] = block
            found.append(np.asarray(run(params, filled))[: len(block)])
        return np.concatenate(found)

    return embed


def retriever_measures(scores: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Scores and golds [N, E] -> NCE against all else, recall of golds at 1, 10, 100.

    A gold's rank counts the entities before it that are no gold of its window.
    """
    loss, count = nce(scores, gold, ~gold)
    found = {"loss": float(loss) / max(int(count), 1)}
    rows, columns = np.nonzero(gold)
    wrong = np.where(gold, -np.inf, scores)
    ranks = (wrong[rows] > scores[rows, columns][:, None]).sum(1)
    for k in (1, 10, 100):
        found[f"recall@{k}"] = float((ranks < k).mean()) if len(ranks) else 0.0
    return found


def retriever_evaluator(
    config: ModelConfig,
    windows: list[dict],
    entities: Int[np.ndarray, "E T"],
    pad: int,
    pool: int,
) -> Callable[[dict], dict[str, float]]:
    """evaluate(params) over windows (as examples make them) and a pool of entities.

    The pool holds the windows' golds and is filled up with the others by chance.
    """
    golds = sorted({int(e) for row in windows for e in row["golds"]})
    others = np.random.default_rng(0).permutation(len(entities)).tolist()
    known = set(golds)
    golds += [e for e in others if e not in known][: max(pool - len(golds), 0)]
    column = {entity: m for m, entity in enumerate(golds)}
    gold = np.zeros((len(windows), len(golds)), bool)
    for row, window in zip(gold, windows):
        row[[column[int(e)] for e in window["golds"]]] = True
    tokens = np.stack([window["window"] for window in windows])
    texts, embed = np.asarray(entities[golds]), embed_all(config, pad)

    def evaluate(params: dict) -> dict[str, float]:
        scores = embed(params["mention"], tokens) @ embed(params["entity"], texts).T
        return retriever_measures(scores, gold)

    return evaluate
