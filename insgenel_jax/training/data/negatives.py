"""Choose the negatives: the entities that the windows of a batch learn to tell from
their golds.

Every window has hard negatives of its own, the entities that the retriever itself ranks
highest and that are wrong (*paper*, 3.2, after EntQA, arXiv:2110.02369), and, where the
settings ask for them, other entities of its mentions' surface forms. The others are
drawn evenly from the knowledge base. The windows of a batch share all of these: what is
hard for one is one more negative for the others.

Mining goes in rounds, the first before the first step and one every `refresh_steps`
steps. The entities, and the windows of the coming round, are embedded with the
parameters of that moment and searched exactly. What was mined is part of the iterator's
state, so a resumed run sees the same negatives.
"""

from __future__ import annotations

import collections
import functools
import itertools
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from insgenel_jax import sharding
from insgenel_jax.models.config import ModelConfig
from insgenel_jax.retrieval.encoder import embed, fixed_batches
from insgenel_jax.retrieval.retriever import of_role
from insgenel_jax.training.data.streams import WHOLE, Stream
from insgenel_jax.training.settings import RetrieverData

QUERIES = 256  # windows searched at a time


class WithNegatives(grain.DatasetIterator):
    """Batches of windows -> batches of windows, entities, gold and negatives.

    windows [B W] and entities [M E] are token ids, with M = golds + negatives; no
    entity stands there twice, and rows at the end may be empty. gold and negatives are
    bool [B M]. Each of many streams has its own M entities; its gold and negatives
    then have the columns of all streams. steps: of the whole training, beyond which
    nothing is mined.
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
        *,
        steps: int | None = None,
        stream: Stream = WHOLE,
    ):
        super().__init__(windows)
        self._steps, self._stream = steps, stream
        self._entities, self._config = entities, config
        self._settings, self._seed, self._counts = settings, seed, counts
        self._pad = pad
        self._step = 0
        # for each batch still to come in this round: hard negatives of each window
        self._mined: list[list[list[int]]] = []

    def __next__(self) -> dict[str, Any]:
        batch = next(self._parent)
        mined = self._mined.pop(0) if self._mined else [[] for _ in batch["golds"]]
        hard = [a + b for a, b in zip(mined, batch["confusable"], strict=True)]
        rng = np.random.default_rng((self._seed, self._stream.number, self._step))
        self._step += 1
        chosen = choose_entities(
            batch["golds"], hard, len(self._entities), self._settings, rng
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
            "gold": _own_columns(chosen.gold, self._stream),
            "negatives": _own_columns(chosen.negatives, self._stream),
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

    def mines(self, step: int) -> bool:
        """Whether a round of mining begins at this step."""
        mined, rounds = self._settings.mined_per_window, self._settings.refresh_steps
        return bool(mined) and step % rounds == 0 and not self._mined

    def refresh(self, step: int, params: dict) -> None:
        """Mine hard negatives for the coming round, if one begins at this step.

        params: whole on this host, as `sharding.gather` leaves them. The windows to
        come are read ahead, and the data is set back to where it was.
        """
        wanted, rounds = self._settings.mined_per_window, self._settings.refresh_steps
        if not self.mines(step):
            return
        if self._steps is not None:
            rounds = min(rounds, self._steps - step)
        place = self._parent.get_state()
        coming = [next(self._parent) for _ in range(rounds)]
        self._parent.set_state(place)
        named = [golds for batch in coming for golds in batch["golds"]]
        pool = self._pool(step, named)
        k = min(wanted + max(map(len, named)), len(pool))
        windows = np.concatenate([batch["windows"] for batch in coming])
        with sharding.locally() as mesh:
            nearest = self._search(params, windows, pool, k, mesh)
        rows = iter(pool[nearest].tolist())
        self._mined = [
            [
                [e for e in row if e not in golds][:wanted]
                # All batches share the iterator `rows`, so it has more rows than there
                # are golds here. The golds must be zip's first argument, so that zip
                # stops at their end. The other way round it would by then have taken,
                # and lost, the first row of the next batch.
                for golds, row in zip(batch["golds"], rows, strict=False)
            ]
            for batch in coming
        ]

    def _pool(self, step: int, golds: list[list[int]]) -> Int[np.ndarray, " P"]:
        """The entities that are searched in this round, ascending."""
        count, limit = len(self._entities), self._settings.mining_pool
        if not limit or limit >= count:
            return np.arange(count)
        named = np.unique(np.concatenate(golds).astype(np.int64))
        rng = np.random.default_rng((self._seed, self._stream.number, step))
        others = np.setdiff1d(np.arange(count), named, assume_unique=True)
        drawn = rng.choice(others, max(limit - len(named), 0), replace=False)
        return np.sort(np.concatenate([named, drawn]))

    def _search(
        self,
        params: dict,
        windows: Int[np.ndarray, "N W"],
        pool: Int[np.ndarray, " P"],
        k: int,
        mesh: Mesh | None,
    ) -> Int[np.ndarray, "N K"]:
        """The k nearest of the pool for each window, as places in the pool."""
        vectors = jnp.asarray(
            self._embed(of_role(params, "entity"), self._entities[pool], mesh)
        )
        queries = self._embed(of_role(params, "mention"), windows, mesh)
        nearest = [
            np.asarray(_nearest(queries[start : start + QUERIES], vectors, k))
            for start in range(0, len(queries), QUERIES)
        ]
        return np.concatenate(nearest)

    def _embed(
        self, params: dict, tokens: Int[np.ndarray, "N T"], mesh: Mesh | None
    ) -> Float[np.ndarray, "N D"]:
        batches = fixed_batches(*tokens.shape)
        return embed(self._config, params, tokens, self._pad, batches, mesh)


@functools.partial(jax.jit, static_argnums=2)
def _nearest(
    queries: Float[Array, "N D"], vectors: Float[Array, "E D"], k: int
) -> Int[Array, "N K"]:
    return jax.lax.top_k(queries @ vectors.T, k)[1]


class Chosen(NamedTuple):
    """The entities of one batch, and what each of them is to each window.

    entities: numbers in the knowledge base, at most M = settings.golds +
    settings.negatives of them; columns beyond them are False. dropped: golds that are
    not among them, because there were more than settings.golds.
    """

    entities: list[int]
    gold: Bool[np.ndarray, "B M"]
    negatives: Bool[np.ndarray, "B M"]
    dropped: int


def check_room(settings: RetrieverData, entities: int, streams: int = 1) -> None:
    """Raise ValueError where the hard negatives of a batch may be too many.

    entities: how many the knowledge base has. streams: that a batch is shared by.
    """
    windows = settings.batch // streams
    each = settings.mined_per_window + settings.confusable_per_window
    needed = min(windows * each, entities)
    if needed > settings.negatives:
        raise ValueError(
            f"data.negatives = {settings.negatives}: expected room for the hard "
            f"negatives of a batch, {needed} (data.mined_per_window = "
            f"{settings.mined_per_window} and data.confusable_per_window = "
            f"{settings.confusable_per_window} for each of {windows} windows); raise "
            "data.negatives, or lower the others or data.batch"
        )


def choose_entities(
    golds: list[list[int]],
    hard: list[list[int]],
    entities: int,
    settings: RetrieverData,
    rng: np.random.Generator,
) -> Chosen:
    """Choose the entities of one batch: golds first, then hard negatives, then random.

    golds, hard: entities of each window; `entities`: how many the knowledge base has.
    An entity that is hard for any window, or drawn, is a negative of every window
    whose gold it is not; with in-batch negatives the golds of other windows are too. A
    gold beyond settings.golds that is hard or drawn is the gold of its window still.
    """
    wanted = list(dict.fromkeys(itertools.chain.from_iterable(golds)))
    kept = wanted[: settings.golds]
    chosen = list(dict.fromkeys(itertools.chain.from_iterable(hard)))
    even = rng.integers(0, entities, settings.negatives - len(chosen)).tolist()
    drawn = {*chosen, *even}
    ids = list(dict.fromkeys([*kept, *chosen, *even]))

    column = {entity: m for m, entity in enumerate(ids)}
    size = len(golds), settings.golds + settings.negatives
    gold, negatives = np.zeros(size, bool), np.zeros(size, bool)
    for b, row in enumerate(golds):
        gold[b, [column[e] for e in row if e in column]] = True
    against = [
        m for m, e in enumerate(ids) if e in drawn or settings.in_batch_negatives
    ]
    negatives[:, against] = True
    dropped = sum(entity not in column for entity in wanted)
    return Chosen(ids, gold, negatives & ~gold, dropped)


def _own_columns(
    own: Bool[np.ndarray, "B M"], stream: Stream
) -> Bool[np.ndarray, "B SM"]:
    """A stream's columns among those of all S streams, the others False."""
    wide = np.zeros((own.shape[0], stream.count, own.shape[1]), bool)
    wide[:, stream.number] = own
    return wide.reshape(own.shape[0], -1)
