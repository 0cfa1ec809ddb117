"""Choose the negatives: the entities that the windows of a batch learn to tell from
their golds.

Most are drawn evenly from the knowledge base; some are hard negatives, mined with the
retriever itself. Mining goes in rounds: every `refresh_steps` steps all entities, and
the windows of the coming round, are embedded with the parameters of that moment and
searched exactly. The mined entities are part of the iterator's state, so a resumed run
sees the same negatives.
"""

from __future__ import annotations

import collections
import functools
import itertools
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.retrieval.encoder import embed, fixed_batches
from insgenel_jax.training.config import RetrieverData

QUERIES = 256  # windows searched at a time


class WithNegatives(grain.DatasetIterator):
    """Batches of windows -> batches of windows, entities, gold and negatives.

    windows [B W] and entities [M E] are token ids, with M = golds + negatives; no
    entity stands there twice, and rows at the end may be empty. gold and negatives are
    bool [B M]. Each of many processes has its own M entities; its gold and negatives
    then have the columns of all processes.
    """

    def __init__(
        self,
        windows: grain.DatasetIterator,
        entities: Int[np.ndarray, "E T"],
        config: ModelConfig,
        settings: RetrieverData,
        pad: int,
        seed: int,
        counts: collections.Counter,
    ):
        super().__init__(windows)
        self._entities, self._config = entities, config
        self._settings, self._seed, self._counts = settings, seed, counts
        self._pad = pad
        self._step = 0
        # for each batch still to come in this round: hard negatives of each window
        self._mined: list[list[list[int]]] = []

    def __next__(self) -> dict[str, Any]:
        batch = next(self._parent)
        mined = self._mined.pop(0) if self._mined else [[] for _ in batch["golds"]]
        rng = np.random.default_rng((self._seed, jax.process_index(), self._step))
        self._step += 1
        chosen = choose_entities(
            batch["golds"], mined, len(self._entities), self._settings, rng
        )
        self._counts["golds over the limit of a batch"] += chosen.dropped
        count = len(chosen.entities)
        rows = (chosen.gold.shape[1], self._entities.shape[1])
        tokens = np.full(rows, self._pad, np.int32)
        tokens[:count] = self._entities[chosen.entities]
        # a row without any token would have nothing to attend to
        tokens[count:, 0] = tokens[0, 0] if count else 0
        return {
            "windows": batch["windows"],
            "entities": tokens,
            "gold": _own_columns(chosen.gold),
            "negatives": _own_columns(chosen.negatives),
            "ids": batch["ids"],
        }

    def get_state(self) -> dict[str, Any]:
        return {
            "windows": self._parent.get_state(),
            "step": self._step,
            "mined": list(self._mined),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self._parent.set_state(state["windows"])
        self._step = state["step"]
        self._mined = list(state["mined"])

    def refresh(self, step: int, params: dict) -> None:
        """Mine hard negatives for the coming round, if one begins at this step.

        The first round has evenly drawn negatives only. The windows to come are read
        ahead, and the data is set back to where it was.
        """
        rounds = self._settings.refresh_steps
        if not self._settings.mined_share or not step or step % rounds or self._mined:
            return
        if jax.process_count() > 1:
            params = multihost_utils.process_allgather(params)
        place = self._parent.get_state()
        coming = [next(self._parent) for _ in range(rounds)]
        self._parent.set_state(place)
        most = max(len(golds) for batch in coming for golds in batch["golds"])
        k = min(self._settings.mined_per_window + most, len(self._entities))
        windows = np.concatenate([batch["windows"] for batch in coming])
        rows = iter(self._search(params, windows, k).tolist())
        self._mined = [
            [
                [e for e in row if e not in golds][: self._settings.mined_per_window]
                # All batches share the iterator `rows`, so it has more rows than there
                # are golds here. The golds must be zip's first argument, so that zip
                # stops at their end. The other way round it would by then have taken,
                # and lost, the first row of the next batch.
                for golds, row in zip(batch["golds"], rows, strict=False)
            ]
            for batch in coming
        ]

    def _search(
        self, params: dict, windows: Int[np.ndarray, "N W"], k: int
    ) -> Int[np.ndarray, "N K"]:
        """The k nearest entities of each window, by the parameters of this moment."""
        vectors = self._embed(params["entity"], self._entities)
        queries = self._embed(params["mention"], windows)
        nearest = [
            np.asarray(_nearest(queries[start : start + QUERIES], vectors, k))
            for start in range(0, len(queries), QUERIES)
        ]
        return np.concatenate(nearest)

    def _embed(
        self, params: dict, tokens: Int[np.ndarray, "N T"]
    ) -> Float[np.ndarray, "N D"]:
        batches = fixed_batches(*tokens.shape)
        return embed(self._config, params, tokens, self._pad, batches)


@functools.partial(jax.jit, static_argnums=2)
def _nearest(
    queries: Float[Array, "N D"], vectors: Float[Array, "E D"], k: int
) -> Int[Array, "N K"]:
    return jax.lax.top_k(queries @ vectors.T, k)[1]


class Chosen(NamedTuple):
    """The entities of one batch, and what each of them is to each window.

    entities: numbers in the knowledge base, at most M = settings.golds +
    settings.negatives of them; columns beyond them are False. dropped: golds that were
    more than settings.golds.
    """

    entities: list[int]
    gold: Bool[np.ndarray, "B M"]
    negatives: Bool[np.ndarray, "B M"]
    dropped: int


def choose_entities(
    golds: list[list[int]],
    mined: list[list[int]],
    entities: int,
    settings: RetrieverData,
    rng: np.random.Generator,
) -> Chosen:
    """Choose the entities of one batch: golds first, then hard negatives, then random.

    golds, mined: entities of each window; `entities`: how many the knowledge base has.
    A drawn entity is a negative of every window whose gold it is not; with in-batch
    negatives the golds of other windows are too.
    """
    wanted = list(dict.fromkeys(itertools.chain.from_iterable(golds)))
    kept = wanted[: settings.golds]
    # the nearest of every window, then the second nearest, ...
    by_rank = itertools.chain.from_iterable(itertools.zip_longest(*mined))
    hard = list(dict.fromkeys(e for e in by_rank if e is not None))
    hard = hard[: round(settings.mined_share * settings.negatives)]
    even = rng.integers(0, entities, settings.negatives - len(hard)).tolist()
    drawn = set(hard) | set(even)
    # a dropped gold must not come back as the negative of its own window
    drawn -= set(wanted[settings.golds :])
    ids = list(dict.fromkeys([*kept, *(e for e in [*hard, *even] if e in drawn)]))

    column = {entity: m for m, entity in enumerate(ids)}
    size = len(golds), settings.golds + settings.negatives
    gold, negatives = np.zeros(size, bool), np.zeros(size, bool)
    for b, row in enumerate(golds):
        gold[b, [column[e] for e in row if e in column]] = True
    against = [
        m for m, e in enumerate(ids) if e in drawn or settings.in_batch_negatives
    ]
    negatives[:, against] = True
    return Chosen(ids, gold, negatives & ~gold, dropped=len(wanted) - len(kept))


def _own_columns(own: Bool[np.ndarray, "B M"]) -> Bool[np.ndarray, "B PM"]:
    """This process's columns among those of all P processes, the others False."""
    wide = np.zeros((own.shape[0], jax.process_count(), own.shape[1]), bool)
    wide[:, jax.process_index()] = own
    return wide.reshape(own.shape[0], -1)
