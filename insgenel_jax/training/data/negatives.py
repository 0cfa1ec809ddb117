"""Entities to tell the golds from: most drawn evenly, some mined with the retriever.

Mining goes in rounds: every `refresh_steps` all entities and the windows of the coming
round are embedded with the parameters of that moment and searched exactly. What was
found is part of the iterator's state, so a resumed run sees the same negatives.
"""

from __future__ import annotations

import collections
import functools
import itertools
from typing import Any

import grain
import jax
import numpy as np
from jax.experimental import multihost_utils

from insgenel_jax.models.config import ModelConfig
from insgenel_jax.training.config import RetrieverData
from insgenel_jax.training.objectives import BLOCK, embed_all


class WithNegatives(grain.DatasetIterator):
    """Batches of windows -> batches of windows, entities, gold and negatives.

    windows [B W], entities [M E] ids with M = golds + negatives, no entity twice, empty
    rows at the end; gold, negatives bool [B M]. Of many processes each has its own M
    entities; its gold and negatives then have the columns of all of them.
    """

    def __init__(
        self,
        windows: grain.DatasetIterator,
        entities: np.ndarray,
        config: ModelConfig,
        settings: RetrieverData,
        pad: int,
        seed: int,
        counts: collections.Counter,
    ):
        super().__init__(windows)
        self._entities = entities
        self._settings, self._seed, self._counts = settings, seed, counts
        self._pad = pad
        self._step = 0
        self._mined: list[list[list[int]]] = []  # of the round's batches to come
        self._embed = embed_all(config, pad)

    def __next__(self) -> dict[str, Any]:
        batch = next(self._parent)
        mined = self._mined.pop(0) if self._mined else [[] for _ in batch["golds"]]
        rng = np.random.default_rng((self._seed, jax.process_index(), self._step))
        self._step += 1
        entities, gold, negatives, dropped = choose_entities(
            batch["golds"], mined, len(self._entities), self._settings, rng
        )
        self._counts["golds over the limit of a batch"] += dropped
        rows = np.full((gold.shape[1], self._entities.shape[1]), self._pad, np.int32)
        rows[: len(entities)] = self._entities[entities]
        # a row without any token would have nothing to attend to
        rows[len(entities) :, 0] = rows[0, 0] if len(entities) else 0
        return {
            "windows": batch["windows"],
            "entities": rows,
            "gold": _own_columns(gold),
            "negatives": _own_columns(negatives),
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
        """Mine for the coming round, where one begins (the first has random ones only).

        The windows to come are read ahead, and the data is set back to where it was.
        """
        rounds = self._settings.refresh_steps
        if not self._settings.mined_share or not step or step % rounds or self._mined:
            return
        if jax.process_count() > 1:
            params = multihost_utils.process_allgather(params)
        place = self._parent.get_state()
        coming = [next(self._parent) for _ in range(rounds)]
        self._parent.set_state(place)
        vectors = self._embed(params["entity"], self._entities)
        queries = self._embed(
            params["mention"], np.concatenate([batch["windows"] for batch in coming])
        )
        most = max(len(golds) for batch in coming for golds in batch["golds"])
        k = min(self._settings.mined_per_window + most, len(self._entities))
        nearest = [
            np.asarray(_nearest(queries[start : start + BLOCK], vectors, k))
            for start in range(0, len(queries), BLOCK)
        ]
        rows = iter(np.concatenate(nearest).tolist())
        self._mined = [
            [
                [e for e in row if e not in golds][: self._settings.mined_per_window]
                for golds, row in zip(batch["golds"], rows)
            ]
            for batch in coming
        ]


@functools.partial(jax.jit, static_argnums=2)
def _nearest(queries, vectors, k: int):
    return jax.lax.top_k(queries @ vectors.T, k)[1]


def choose_entities(
    golds: list[list[int]],
    mined: list[list[int]],
    entities: int,
    settings: RetrieverData,
    rng: np.random.Generator,
) -> tuple[list[int], np.ndarray, np.ndarray, int]:
    """The entities of one batch, and what each is to each window.

    golds, mined: entity ids of each window; `entities`: how many there are.
    -> ids (at most settings.golds golds, then mined, then random), gold and negatives
    bool [B, golds + negatives], and the number of golds dropped. A drawn entity is a
    negative of every window whose gold it is not.
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
    shape = len(golds), settings.golds + settings.negatives
    gold, negatives = np.zeros(shape, bool), np.zeros(shape, bool)
    for b, row in enumerate(golds):
        gold[b, [column[e] for e in row if e in column]] = True
    against = [
        m for m, e in enumerate(ids) if e in drawn or settings.in_batch_negatives
    ]
    negatives[:, against] = True
    return ids, gold, negatives & ~gold, len(wanted) - len(kept)


def _own_columns(own: np.ndarray) -> np.ndarray:
    """This process's columns among those of all processes, the others False."""
    wide = np.zeros((own.shape[0], jax.process_count(), own.shape[1]), bool)
    wide[:, jax.process_index()] = own
    return wide.reshape(own.shape[0], -1)
